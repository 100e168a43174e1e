"""Kept patches drawn on the input: what was sent stays as it is, what was not sent fades."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..models.card import ModelCard

__all__ = ["KeptPatches", "draw_kept", "picture_rows", "png_uri"]

_SIDE = 192
_OUTLINE = (213, 94, 0)
_FADED = 232.0


@dataclass(frozen=True)
class KeptPatches:
    """One input and the patch tokens that are sent of it at some keep fractions.

    image       uint8 (H, W, C), C = 1 or 3
    label       the true class, -1 where it is unknown; prediction: the class that was answered
    classes     names by class
    kept        positions of patch tokens, row by row over the patch grid, by keep fraction
    caption     said below the row, '' for nothing
    """

    image: np.ndarray
    label: int
    prediction: int
    classes: tuple[str, ...]
    kept: dict[float, np.ndarray]
    caption: str = ""


def draw_kept(image: np.ndarray, kept: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The image with its dropped patches faded and the kept ones outlined, uint8 (H', W', 3).

    image: uint8 (H, W, C); kept: positions on `grid` (rows, columns). Small images are enlarged by a whole
    factor, so that their pixels stay squares.
    """
    rows, columns = grid
    mask = np.zeros(rows * columns, bool)
    mask[np.asarray(kept, dtype=np.int64)] = True
    pixels = _enlarged(image)
    height, width = pixels.shape[:2]
    patch_row = np.arange(height) * rows // height
    patch_column = np.arange(width) * columns // width
    shown = mask.reshape(rows, columns)[patch_row[:, None], patch_column[None, :]]
    grey = pixels.astype(np.float64).mean(axis=2, keepdims=True)
    drawn = np.where(shown[..., None], pixels, 0.22 * grey + 0.78 * _FADED)
    drawn[_border(shown)] = _OUTLINE
    return drawn.astype(np.uint8)


def _border(shown: np.ndarray) -> np.ndarray:
    """The two outermost pixels inside every kept region."""
    inside = np.pad(shown, 2)
    height, width = shown.shape
    around = [
        inside[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dy in (-2, 0, 2) for dx in (-2, 0, 2)
    ]
    return np.asarray(shown & ~np.logical_and.reduce(around))


def _enlarged(image: np.ndarray) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.uint8)
    pixels = np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] != 3 else pixels
    longest = max(pixels.shape[:2])
    if longest > 2 * _SIDE:
        scale = _SIDE / longest
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    factor = max(1, round(_SIDE / longest))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def png_uri(pixels: np.ndarray) -> str:
    """A data: address of the picture."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def picture_rows(pictures: list[KeptPatches], card: ModelCard) -> list[dict[str, Any]]:
    """What the page shows of each picture: the input itself, then the smallest keep fraction first."""
    grid = card.image_size[0] // card.patch, card.image_size[1] // card.patch
    total = grid[0] * grid[1]
    rows = []
    for picture in pictures:
        panels = [{"title": "input", "uri": png_uri(_enlarged(picture.image))}]
        for keep in sorted(picture.kept):
            kept = picture.kept[keep]
            title = f"{100 * keep:.3g} %: {len(kept)} of {total}"
            panels.append({"title": title, "uri": png_uri(draw_kept(picture.image, kept, grid))})
        rows.append(
            {
                "panels": panels,
                "caption": picture.caption,
                "answer": _name(picture.classes, picture.prediction),
                "truth": None if picture.label < 0 else _name(picture.classes, picture.label),
                "right": picture.label == picture.prediction,
            }
        )
    return rows


def _name(classes: tuple[str, ...], index: int) -> str:
    return classes[index] if 0 <= index < len(classes) else f"class {index}"
