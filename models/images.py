"""Pictures of any kind as the pixels that networks take."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from .card import ModelCard

__all__ = ["UNREADABLE", "fit_images", "image_files", "picture_pixels", "read_image"]

UNREADABLE = (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError)
"""What Pillow raises, by format, where a picture is broken or of a kind that it does not know."""

_NETPBM = {".pbm", ".pgm", ".ppm"}
_SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"} | _NETPBM
_ORIENTATION = 0x0112  # of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation. Pillow's own function writes the EXIF anew too, and fails where it is odd."""


def image_files(folder: Path) -> list[Path]:
    """Every image file below a folder, behind links too, in order of paths; what is hidden (`.x`) is left out."""
    found, seen = [], set()
    for where, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(where))  # a link may lead back
        shown = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in shown if os.path.realpath(Path(where, name)) not in seen]
        found += [Path(where, name) for name in files if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in _SUFFIXES)


def _mode(channels: int) -> str:
    if channels not in (1, 3):
        raise DataError(f"a picture has 1 or 3 channels, grey or RGB; the network takes {channels}")
    return "L" if channels == 1 else "RGB"


def picture_pixels(
    picture: Image.Image, size: tuple[int, int] | None, channels: int | None
) -> NDArray[np.uint8]:
    """A picture, turned as its EXIF says, as uint8 (H, W, C); size and channels as in `read_image`.

    16-bit grey is scaled to 8 bits. Transparency is dropped. ValueError for 32-bit and float pixels, whose range
    nobody knows.
    """
    picture.load()  # which turns a TIFF, and takes the orientation out of its EXIF
    turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    if turn is not None:
        picture = picture.transpose(turn)
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion would cut off whatever is above 255.
        deep = np.asarray(picture).astype(np.uint32)
        picture = Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise ValueError("its pixels are of 32 bits; 8 or 16 are read")
    if channels is None:
        channels = 1 if picture.mode in ("1", "L") else 3
    picture = picture.convert(_mode(channels))
    if size is not None and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def read_image(
    source: Path | str | bytes,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    *,
    what: str = "",
) -> NDArray[np.uint8]:
    """One image, from a path or from JPEG or PNG bytes, as uint8 (H, W, C).

    Resized to `size` (height, width) if that differs, and made grey or RGB for `channels` 1 or 3; by default
    the image's own size, grey only if it is. DataError, naming `what`, if it cannot be read.
    """
    what = what or (f"the image {source}" if not isinstance(source, bytes) else "the image")
    try:
        # Not by its name: Pillow maps some files into memory then, and scrambles a TIFF that is to be turned.
        with (
            io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file,
            Image.open(file) as opened,
        ):
            return picture_pixels(opened, size, channels)
    except UnidentifiedImageError as error:
        # Pillow's own text is where in memory the bytes lie.
        raise DataError(f"cannot read {what}: it is no picture of a format that is known") from error
    except UNREADABLE as error:
        raise DataError(f"cannot read {what}: {error}") from error


def fit_images(images: NDArray[np.uint8], card: ModelCard) -> NDArray[np.uint8]:
    """uint8 (N, H, W, C) resized and converted to the card's size and channels."""
    if images.shape[1:] == (*card.image_size, card.channels):
        return images
    pictures = (Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in images)
    return np.stack([picture_pixels(picture, card.image_size, card.channels) for picture in pictures])
