"""Rivals of a joint code: the image itself, compressed to what an ideal digital code carries in as many channel uses.

A budget is bytes = floor(uses · log2(1 + SNR) / 8): Shannon's capacity, no gap, no error, no packet header. Headers
that a receiver could know are not charged (WebP: the container; JPEG: everything but the entropy-coded scan, and so
not even the Huffman tables, which are fitted to each image). Of each image the best quality that fits is sent; where
none fits, nothing is, and the answer is the commonest class.

    jpeg, webp   at full size
    downscaled   to a part of the side, then as JPEG, WebP or plain pixels of 1 to 8 bits; which of them is chosen for
                 each budget on the calibration split
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from image_rivals import picture
from PIL import Image
from rich.progress import track

from splitpoint.models.data import Dataset
from splitpoint.models.evaluate import exit_logits
from splitpoint.models.recursion import prediction
from splitpoint.models.vit import SplitViT

__all__ = ["KINDS", "Rivals", "budget_bytes"]

KINDS = ("jpeg", "webp", "downscaled")
_QUALITIES = {"jpeg": (1, 10, 30, 60, 90), "webp": (0, 10, 30, 60, 90), "pixels": (1, 2, 4, 8)}
_DIVISORS = (1, 2, 4, 8, 16)
_SMALLEST = 16  # side below which JPEG and WebP only cost headers
_WEBP_CONTAINER = 20


def budget_bytes(uses: int, snr_db: float) -> int:
    """Whole bytes that `uses` channel uses carry at capacity."""
    return int(uses * math.log2(1.0 + 10.0 ** (0.1 * snr_db)) / 8.0)


class _Ladder(NamedTuple):
    """One coder at one size, qualities rising: bytes and whether the answer is right, both (Q, N)."""

    kind: str
    nbytes: np.ndarray
    right: np.ndarray


def _scan_bytes(data: bytes) -> int:
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data) - at - 2 - int.from_bytes(data[at + 2 : at + 4], "big") - 2


def _sent(small: Image.Image, coder: str, quality: int) -> tuple[Image.Image, int]:
    """What arrives of a picture, and its bytes."""
    if coder == "pixels":
        step = 256 / 2**quality
        pixels = np.asarray(small)
        arrived = (np.floor(pixels / step) + 0.5) * step
        return Image.fromarray(arrived.clip(0, 255).astype(np.uint8)), -(-pixels.size * quality // 8)
    buffer = io.BytesIO()
    if coder == "jpeg":
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        nbytes = _scan_bytes(buffer.getvalue())
    else:
        small.save(buffer, "WEBP", quality=quality, method=6)
        nbytes = len(buffer.getvalue()) - _WEBP_CONTAINER
    with Image.open(buffer) as opened:
        return opened.convert(small.mode), nbytes


def _through(image: np.ndarray, divisor: int, coder: str, quality: int) -> tuple[np.ndarray, int]:
    small = whole = picture(image)
    if divisor > 1:
        small = whole.resize((whole.width // divisor, whole.height // divisor), Image.Resampling.BOX)
    arrived, nbytes = _sent(small, coder, quality)
    if divisor > 1:
        arrived = arrived.resize(whole.size, Image.Resampling.BICUBIC)
    return np.asarray(arrived, np.uint8).reshape(image.shape), nbytes


def _options(side: int) -> list[tuple[int, str]]:
    options = [(1, "jpeg"), (1, "webp")]
    for divisor in _DIVISORS[1:]:
        if side // divisor >= 2:
            options.append((divisor, "pixels"))
        if side // divisor >= _SMALLEST:
            options += [(divisor, "jpeg"), (divisor, "webp")]
    return options


class Rivals:
    """All rivals measured on one split. `cache`: where the table is kept from call to call."""

    def __init__(self, network: SplitViT, data: Dataset, commonest: int, cache: Path) -> None:
        self._guess = data.labels == commonest
        options = _options(min(data.images.shape[1:3]))
        table = dict(np.load(cache)) if cache.exists() else {}
        self.ladders: list[_Ladder] = []
        for divisor, coder in track(options, description=f"rivals {cache.stem}"):
            name = f"{divisor}-{coder}"
            if f"{name}-bytes" not in table:
                rows = [self._measured(network, data, divisor, coder, q) for q in _QUALITIES[coder]]
                table[f"{name}-bytes"], table[f"{name}-right"] = map(np.stack, zip(*rows, strict=True))
                cache.parent.mkdir(parents=True, exist_ok=True)
                np.savez(cache, **table)
            kind = coder if divisor == 1 else "downscaled"
            self.ladders.append(_Ladder(kind, table[f"{name}-bytes"], table[f"{name}-right"]))

    @staticmethod
    @torch.inference_mode()
    def _measured(
        network: SplitViT, data: Dataset, divisor: int, coder: str, quality: int
    ) -> tuple[np.ndarray, np.ndarray]:
        pairs = [_through(image, divisor, coder, quality) for image in data.images]
        arrived = Dataset(np.stack([pair[0] for pair in pairs]), data.labels, data.classes)
        right = prediction(exit_logits(network, network.card, arrived)[:, -1]) == data.labels
        return np.array([pair[1] for pair in pairs]), right

    def accuracies(self, budget: int) -> np.ndarray:
        """Of every ladder at a budget in bytes, (L,)."""
        found = []
        for ladder in self.ladders:
            right = self._guess.copy()
            for nbytes, answer in zip(ladder.nbytes, ladder.right, strict=True):
                right = np.where(nbytes <= budget, answer, right)
            found.append(right.mean())
        return np.array(found)

    def best(self, budget: int, chosen_on: Rivals) -> dict[str, float]:
        """Accuracy of each kind at a budget; which of its ladders was chosen on another split."""
        there, here = chosen_on.accuracies(budget), self.accuracies(budget)
        kinds = np.array([ladder.kind for ladder in self.ladders])
        result = {}
        for kind in KINDS:
            places = np.flatnonzero(kinds == kind)
            result[kind] = float(here[places[there[places].argmax()]])
        return result
