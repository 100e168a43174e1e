"""The raw input as a payload (cut 0): lossless PNG, or WebP or JPEG at a quality.

The decoder opens only the declared format, and looks at the size before it decodes a pixel: what does not
have exactly the model's image size is refused, and so is a file much larger than its pixels.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from ..protos import splitpoint_pb2 as pb
from .errors import PayloadError

__all__ = ["LOSSLESS", "decode_image", "encode_image", "parse_image_format"]

LOSSLESS = "png"

_NAMES = {
    pb.IMAGE_FORMAT_PNG: "PNG",
    pb.IMAGE_FORMAT_WEBP: "WEBP",
    pb.IMAGE_FORMAT_JPEG: "JPEG",
}
_MOST_BESIDE = 1 << 16  # bytes that are no pixels
_FORMATS = {name.lower(): number for number, name in _NAMES.items()}


def parse_image_format(text: str) -> tuple[str, int]:
    """Format and quality, as `encode_image` takes them, of "png", "webp:QUALITY" or "jpeg:QUALITY"; DataError else."""
    name, _, quality = text.partition(":")
    if text == LOSSLESS:
        return LOSSLESS, 0
    if not (name in _FORMATS and name != LOSSLESS and quality.isdecimal() and int(quality) <= 100):
        raise DataError(
            f"image_format: must be png, webp:QUALITY or jpeg:QUALITY, with a quality of 0 to 100, not '{text}'"
        )
    return name, int(quality)


def encode_image(image: np.ndarray, format: str = LOSSLESS, quality: int = 75) -> pb.Image:
    """Image uint8 (H, W, C), C 1 or 3, to a payload; equal bytes on one machine and set of versions.

    format   "png" (lossless), "webp" or "jpeg"
    quality  0..100, of the lossy formats
    """
    if format not in _FORMATS:
        raise PayloadError("image.format", f"must be one of {', '.join(sorted(_FORMATS))}, not {format!r}")
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8 or not image.size:
        raise PayloadError("image", f"must be uint8 (H, W, 1 or 3), not {image.dtype} {image.shape}")
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    number = _FORMATS[format]
    out = io.BytesIO()
    if format == LOSSLESS:
        picture.save(out, "PNG", optimize=True)
    elif format == "webp":
        picture.save(out, "WEBP", quality=quality, method=4)
    else:
        picture.save(out, "JPEG", quality=quality, optimize=True)
    return pb.Image(format=number, data=out.getvalue())


def decode_image(message: pb.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Image of a payload, uint8 (H, W, C) = `shape`. PayloadError, naming the field, for anything else."""
    height, width, channels = shape
    name = _NAMES.get(message.format)
    if name is None:
        raise PayloadError("image.format", f"{message.format} is not known")
    # Pillow reads files piece by piece in Python: seconds for a few megabytes of empty ones.
    most = 2 * 3 * height * width + _MOST_BESIDE  # twice an RGB image's
    if len(message.data) > most:
        raise PayloadError("image.data", f"must have at most {most} bytes, not {len(message.data)}")
    if name == "PNG":
        _check_png(message.data)
    if name == "WEBP":
        _check_size(_webp_size(message.data), (width, height))
    try:
        with Image.open(io.BytesIO(message.data), formats=[name]) as picture:
            _check_size(picture.size, (width, height))
            if picture.mode not in ("L", "RGB"):
                raise PayloadError("image.data", f"must be grey or RGB, not {picture.mode}")
            picture.load()
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except PayloadError:
        raise
    except Exception as error:  # Pillow's decoders raise half a dozen kinds on bad data
        # Of what it cannot identify it tells where in this process' memory it lies.
        why = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise PayloadError("image.data", f"is not a readable {name} image{why}") from error
    return pixels.reshape(shape)


def _check_size(found: tuple[int, int], wanted: tuple[int, int]) -> None:
    if found != wanted:
        raise PayloadError("image.data", f"must be {wanted[0]}x{wanted[1]} pixels, not {found[0]}x{found[1]}")


def _check_png(data: bytes) -> None:
    # Pillow inflates text and profile chunks when it opens a file: up to 64 MiB from a few kilobytes.
    place, kind = 8, b""
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            raise PayloadError("image.data", f"must not have {kind.decode()} chunks")
        place += 12 + length
    if kind != b"IEND" or place != len(data):
        raise PayloadError("image.data", "is not a whole PNG file")


def _webp_size(data: bytes) -> tuple[int, int]:
    # Pillow allocates a WebP's whole canvas when it opens the file, so its size is read here first.
    kind = data[12:16]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        if kind == b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        if kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        if kind == b"VP8L":
            size = int.from_bytes(data[21:25], "little")
            return (size & 0x3FFF) + 1, (size >> 14 & 0x3FFF) + 1
    raise PayloadError("image.data", "is not a readable WEBP image")
