"""The rival that sends the image itself: WebP or JPEG at a quality, to the network as it is or fine-tuned on such."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch.nn import functional

from splitpoint.models.data import Dataset, load_data
from splitpoint.models.evaluate import exit_logits
from splitpoint.models.preprocess import normalise
from splitpoint.models.recursion import prediction
from splitpoint.models.store import load_network
from splitpoint.models.training_data import ClutterData, StoredData, TrainingData
from splitpoint.models.vit import SplitViT
from splitpoint.seeding import generator

FORMATS = ("webp", "jpeg")
QUALITIES = (1, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)

_TABLES = {
    0xE0,
    0xDB,
    0xC4,
}  # JFIF header, quantisation and Huffman tables: the same in every image of a quality


def picture(image: np.ndarray) -> Image.Image:
    """Of pixels uint8 (H, W, C), one channel or three."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def jpeg_without_tables(data: bytes) -> int:
    """Bytes of a JPEG file but for the segments that sender and receiver could know beforehand."""
    at, charged = 2, 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        charged += 0 if data[at + 1] in _TABLES else length
        at += length
    return charged + len(data) - at


def coded(image: np.ndarray, kind: str, quality: int) -> tuple[np.ndarray, int]:
    """What arrives of an image uint8 (H, W, C), and the bytes that it is charged."""
    buffer = io.BytesIO()
    if kind == "webp":
        picture(image).save(buffer, "WEBP", quality=quality, method=6)
        nbytes = len(buffer.getvalue())
    else:
        picture(image).save(buffer, "JPEG", quality=quality, optimize=False)
        nbytes = jpeg_without_tables(buffer.getvalue())
    with Image.open(buffer) as opened:
        arrived = np.asarray(opened.convert("L" if image.shape[2] == 1 else "RGB"))
    return arrived.reshape(image.shape), nbytes


def training_data(name: str, data_dir: Path | None, seed: int) -> TrainingData:
    if name == "clutter":
        return ClutterData(seed, 2, 0)
    card = load_network(name)[1]
    return StoredData(seed, lambda split: load_data(name, split, card=card, data_dir=data_dir))


def fine_tuned(
    name: str, kind: str, data: TrainingData, folder: Path, *, images: int, seed: int, rate: float = 3e-4
) -> SplitViT:
    """The network after `images` training images of random quality, by the loss at every exit; kept in `folder`."""
    network, card = load_network(name)
    path = folder / f"{card.name}.{card.id}.{kind}.{images}.{seed}.pt"
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    rng = generator(seed, f"image-rival-{kind}")
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=rate, weight_decay=0.05)
    batch, seen, epoch = 64, 0, 0
    pixels, labels = data.epoch(0)
    at = 0
    for step in track(range(images // batch), description=f"{card.name} on {kind}"):
        if at + batch > len(labels):
            epoch, at = epoch + 1, 0
            pixels, labels = data.epoch(epoch)
        part = slice(at, at + batch)
        at += batch
        quality = rng.choice(QUALITIES, batch)
        arrived = np.stack([coded(x, kind, int(q))[0] for x, q in zip(pixels[part], quality, strict=True)])
        logits = network(torch.from_numpy(normalise(arrived, card)))
        loss = sum(
            (
                functional.cross_entropy(q, torch.from_numpy(labels[part]), label_smoothing=0.1)
                for q in logits
            ),
            start=torch.zeros(()),
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50, 2 * (1 - seen / images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += batch
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)
    return network.eval()


def measured(network: SplitViT, data: Dataset, kind: str) -> list[dict[str, float]]:
    """Accuracy at the last exit and mean bytes of the image at every quality."""
    rows = []
    for quality in QUALITIES:
        pairs = [coded(image, kind, quality) for image in data.images]
        arrived = Dataset(np.stack([pair[0] for pair in pairs]), data.labels, data.classes)
        right = prediction(exit_logits(network, network.card, arrived)[:, -1]) == data.labels
        rows.append(
            {
                "quality": quality,
                "bytes": float(np.mean([pair[1] for pair in pairs])),
                "accuracy": float(right.mean()),
            }
        )
    return rows
