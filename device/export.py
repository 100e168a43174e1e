"""`splitpoint export`: a folder with which a board runs a network's head, without torch.

card.json            the model card; written last, so that a broken export is none
codec.safetensors    the codec's arrays
embed.onnx, block_I.onnx, exit_I.onnx; of a network with gates also budget.onnx and gate_I.onnx
calibration.npz      the calibration profile, where one lies beside the model: adaptive policies need it
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..errors import DataError, MissingExtra
from ..models.card import ModelCard
from ..models.store import codec_arrays, load_network, resolve
from ..models.vit import SplitViT
from ..seeding import generator
from .head import Head, advanced
from .load import CALIBRATION, CODEC, calibration_of, load_head
from .onnx_head import BLOCK, BUDGET, CARD, EMBED, EXIT, GATE

__all__ = ["export"]

_CHECKS = 4
_TOLERANCE = 1e-3
"""Margins agree to 1e-5 in practice; a wrong graph is wrong by far more."""


def export(model: str | Path, out: Path | str, *, progress: bool = True) -> ModelCard:
    """Write the folder `out` and check it: on a few inputs it answers as the network does. Gives the card.

    progress  shows a bar on stderr

    Raises MissingExtra without the library onnx, DataError for a folder that cannot be written.
    """
    try:
        import onnx

        from .onnx_graphs import block_graph, budget_graph, embed_graph, exit_graph, gate_graph
    except ImportError:
        raise MissingExtra("exporting a network", "sim") from None
    path, folder = resolve(model), Path(out)
    network, card = load_network(path)
    parts = [(EMBED, partial(embed_graph, network, card))]
    parts += [(BLOCK.format(i), partial(block_graph, network, card, i)) for i in range(card.depth)]
    parts += [(EXIT.format(i), partial(exit_graph, network, card, i)) for i in range(len(card.exits))]
    if card.gates:
        parts.append((BUDGET, partial(budget_graph, network, card)))
        parts += [(GATE.format(i), partial(gate_graph, network, card, i)) for i in range(1, card.depth)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task(f"{card.name} to {folder}", total=len(parts) + 1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_old(folder)
            for name, build in parts:
                onnx.save(build(), folder / name)
                bar.advance(task)
            _write_beside(path, folder)
            (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write the export {folder}: {error.strerror or error}") from None
        _check(network, card, folder)
        bar.advance(task)
    return card


def _remove_old(folder: Path) -> None:
    """Nothing of an earlier export must outlive it; the card goes first."""
    if not (folder / CARD).exists():
        return
    for name in (CARD, CALIBRATION, CODEC, EMBED, BUDGET):
        (folder / name).unlink(missing_ok=True)
    for pattern in (BLOCK, EXIT, GATE):
        for path in folder.glob(pattern.format("*")):
            path.unlink()


def _write_beside(path: Path, folder: Path) -> None:
    from safetensors.numpy import save

    arrays = codec_arrays(path)
    (folder / CODEC).write_bytes(save({name: _narrow(array) for name, array in arrays.items()}))
    profile = calibration_of(path)
    if profile is not None:
        shutil.copyfile(profile, folder / CALIBRATION)
    else:
        # Of an export that was broken off, and so has no card by which `_remove_old` knows it.
        (folder / CALIBRATION).unlink(missing_ok=True)


def _narrow(array: np.ndarray) -> np.ndarray:
    # Floats come from float16 in the model's file: nothing is lost.
    return array.astype(np.float16) if array.dtype == np.float32 else array


def _check(network: SplitViT, card: ModelCard, folder: Path) -> None:
    from .torch_head import TorchHead

    reference: Head = TorchHead.of(network, card)
    exported = load_head(folder, "onnx")
    random = generator(0, "export-check")
    for check in range(_CHECKS):
        image = random.integers(0, 256, (*card.image_size, card.channels), dtype=np.uint8)
        keep = 1.0 - check / _CHECKS
        wanted, found = (advanced(head, image, None, card.depth, keep) for head in (reference, exported))
        sure = wanted.margin > _TOLERANCE
        if abs(wanted.margin - found.margin) > _TOLERANCE or (sure and wanted.prediction != found.prediction):
            (folder / CARD).unlink()
            raise DataError(
                f"the export of {card.name} does not answer as the network does: class {found.prediction} with "
                f"margin {found.margin:.6f}, not {wanted.prediction} with {wanted.margin:.6f}"
            )
