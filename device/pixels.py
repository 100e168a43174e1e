"""What a caller may call an image, as the pixels that the network takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from ..models.card import ModelCard
from ..models.images import UNREADABLE, fit_images, picture_pixels, read_image

__all__ = ["ImageLike", "as_pixels"]

ImageLike = np.ndarray | Image.Image | Path | str


def as_pixels(image: ImageLike, card: ModelCard) -> np.ndarray:
    """uint8 (H, W, C) of the network's size and channels, the caller's own memory never.

    image  uint8 (H, W) or (H, W, C), a Pillow image, or the path of a file; other sizes are resized, colour
           is made grey or the other way round, as the network wants it

    Raises DataError for anything else.
    """
    if isinstance(image, Path | str):
        return read_image(image, card.image_size, card.channels)
    if isinstance(image, Image.Image):
        try:
            return picture_pixels(image, card.image_size, card.channels)
        except UNREADABLE as error:  # Pillow reads files only when it must
            raise DataError(f"cannot read the picture: {error}") from error
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise DataError(f"an image must be uint8 (H, W) or (H, W, C), a Pillow image or a path, not {kind}")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise DataError(f"an image must have shape (H, W), (H, W, 1) or (H, W, 3), not {image.shape}")
    # Cameras write frame after frame into one array, while this one may still wait in line.
    return fit_images(image[None], card)[0].copy()
