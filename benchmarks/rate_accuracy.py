"""Accuracy against bytes over cut x keep x dims x bits, and the rivals at the accuracy one point below uncompressed.

Local exits are off: every input is sent, and the last exit answers. At most half of the MACs are the device's. Points
are chosen on the calibration split (the cheapest within the allowed loss, the Pareto front), and reported on the
evaluation split. Bytes are those of the whole serialised request, its exit state included, images in the same request;
JPEG is not charged its constant tables.

    splitpoint   the model as it is: gates or rest token, where it has them, with bottleneck dims and bits
    top-k        the same network without gates and rest token: patches by attention from CLS, same dims and bits
    random       random patches, same dims and bits
    unselected   all tokens, same dims and bits
    webp, jpeg   the image, to the network as it is and to the network fine-tuned on such images

Where the model's codec was trained with rest tokens (`splitpoint train-codec`), that of top-k, random and unselected
goes on from there without them, by the same configuration otherwise, so that it has learned twice as long. "random,
rest" is no rival but tells what selection adds to the rest token.

    python benchmarks/rate_accuracy.py --model clutter
    python benchmarks/rate_accuracy.py --model cifar10 --data-dir DIR

Writes results/rate_accuracy_MODEL.json and .png; the last line is JSON whose `ratio` is the bytes of the best rival
over ours, at one point below the uncompressed accuracy.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import command_line, run
from image_rivals import FORMATS, fine_tuned, measured, training_data
from kept_profile import kept_profile
from rich.console import Console
from rich.table import Table

from splitpoint.codec.requests import build_request
from splitpoint.models import macs
from splitpoint.models.card import ModelCard
from splitpoint.models.codec_command import train_codec
from splitpoint.models.codec_train import CodecConfig
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.grid import Grid
from splitpoint.models.measure_heads import Heads
from splitpoint.models.profile import Profile
from splitpoint.models.store import codec_arrays, load_network, resolve, save_network
from splitpoint.models.vit import SplitViT
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.seeding import generator

RESULTS = Path(__file__).parent / "results"
ALLOWED_LOSS = 0.01

Row = dict[str, Any]


def some(data: Dataset, samples: int, seed: int) -> Dataset:
    """`samples` of the data at random, or all."""
    if samples >= len(data):
        return data
    places = generator(seed, "rate-accuracy-samples").permutation(len(data))[:samples]
    return Dataset(data.images[places], data.labels[places], data.classes)


def grid_of(card: ModelCard) -> Grid:
    """Cuts with at most half of the MACs on the device; as fine where bytes are few as image qualities are."""
    half = macs.total_macs(card) / 2
    cuts = tuple(cut for cut in range(1, card.depth) if macs.head_macs(card, cut, False) <= half)
    dims = tuple(max(1, card.dim // share) for share in (2, 3, 4, 6))
    keeps = (1.0, 0.5, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.09375, 0.0625, 0.03125)
    return Grid(cuts, keeps, dims, (4, 3, 2))


def plain_model(model: str, named: str, data_dir: Path | None, folder: Path) -> str:
    """The model's file, or one of the same network without its gates, and with a codec without rest tokens."""
    network, card = load_network(model)
    arrays = {k: v for k, v in codec_arrays(resolve(model)).items() if k.startswith("codec.")}
    if card.gates:
        plain = SplitViT(card.model_copy(update={"gates": False, "name": f"{card.name}-ungated", "id": ""}))
        plain.load_state_dict(network.state_dict(), strict=False)
        path = folder / f"{card.name}-ungated.safetensors"
        save_network(path, plain, plain.card, arrays)
        return str(path)
    trained: Any = card.training.get("codec")
    if trained is None or not trained["config"]["rest"]:
        return model
    path = folder / f"{card.name}-{card.id}-plain.safetensors"
    if not path.exists():
        config = CodecConfig.model_validate(trained["config"] | {"rest": False})
        train_codec(model, config, path, data=named, data_dir=data_dir)
    return str(path)


def at_random(heads: Heads) -> None:
    """Scores that say nothing."""
    heads.scores = generator(0, "rate-accuracy-random").random(np.shape(heads.scores), dtype=np.float32)


def rows_of(calibration: Profile, evaluation: Profile, unselected: bool | None = None) -> list[Row]:
    """One row a grid point; `unselected` True or False takes only those that send all tokens, or not."""
    rows = []
    for place, (cut, keep, dims, bits) in enumerate(evaluation.grid.points()):
        if unselected is not None and unselected != (keep == 1.0):
            continue
        row: Row = {"cut": cut, "keep": keep, "dims": dims, "bits": bits}
        for name, profile in (("calibration", calibration), ("evaluation", evaluation)):
            right = profile.tail_prediction[place, :, -1] == profile.labels
            row[name] = {
                "accuracy": float(right.mean()),
                "bytes": float(profile.request_bytes[place].mean()),
            }
        rows.append(row)
    return rows


def front(rows: list[Row]) -> list[Row]:
    """Rows that no other beats on the calibration split, cheapest first."""
    best, kept = -1.0, []
    for row in sorted(rows, key=lambda row: (row["calibration"]["bytes"], -row["calibration"]["accuracy"])):
        if row["calibration"]["accuracy"] > best:
            best = row["calibration"]["accuracy"]
            kept.append(row)
    return kept


def cheapest(rows: list[Row], accuracy: float) -> Row | None:
    """The row of fewest bytes whose calibration accuracy is at least so much."""
    fit = [row for row in rows if row["calibration"]["accuracy"] >= accuracy]
    return min(fit, key=lambda row: row["calibration"]["bytes"]) if fit else None


def envelope_bytes(card: ModelCard) -> int:
    """What a request adds to an image's file."""
    empty = pb.Image(format=pb.IMAGE_FORMAT_WEBP, data=bytes(200))
    request = build_request(
        model_id=card.id, request_id=1, cut=0, deadline_s=1.0, exit_margin=2.0, payload=empty
    )
    return request.ByteSize() - 200


def image_rows(network: SplitViT, splits: dict[str, Dataset], kind: str) -> list[Row]:
    found = {name: measured(network, data, kind) for name, data in splits.items()}
    for rows in found.values():
        for row in rows:
            row["bytes"] += envelope_bytes(network.card)
    return [
        {"quality": c["quality"], "calibration": c, "evaluation": e}
        for c, e in zip(found["calibration"], found["evaluation"], strict=True)
    ]


def drawn(methods: dict[str, list[Row]], uncompressed: float, name: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for method, rows in methods.items():
        points = [(row["evaluation"]["bytes"], row["evaluation"]["accuracy"]) for row in front(rows)]
        axes.plot(*zip(*points, strict=True), marker=".", lw=2 if method == "splitpoint" else 1, label=method)
    axes.axhline(uncompressed, color="grey", lw=0.8, label="uncompressed")
    axes.axhline(uncompressed - ALLOWED_LOSS, color="grey", lw=0.8, ls=":")
    axes.set(xscale="log", xlabel="bytes a request", ylabel="accuracy", title=f"{name}, evaluation split")
    axes.set_ylim(max(0.0, uncompressed - 0.3), uncompressed + 0.02)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="clutter")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=1000, help="of each split")
    parser.add_argument(
        "--tuning", type=int, default=20_000, help="training images that the image rivals see"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/rate_accuracy"), help="kept between runs")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def token_methods(
    given: argparse.Namespace, named: str, splits: dict[str, Dataset], coder: str
) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """Rows of each method that sends patches, and the uncompressed accuracy of each split."""
    card = load_network(given.model)[1]
    grid = grid_of(card)

    def profiles(model: str, rescored: Any = None) -> tuple[Profile, Profile]:
        stem = f"{load_network(model)[1].id}.{'random' if rescored else 'own'}"
        calibration, evaluation = (
            kept_profile(
                given.work / f"{stem}.{split}.{len(splits[split])}.npz",
                model, splits[split], split, grid, coder, rescored,
            )
            for split in ("calibration", "evaluation")
        )  # fmt: skip
        return calibration, evaluation

    plain = plain_model(given.model, named, given.data_dir, given.work)
    attention = profiles(plain)
    own = attention if plain == given.model else profiles(given.model)
    methods = {
        "splitpoint": rows_of(*own),
        "top-k": rows_of(*attention),
        "random": rows_of(*profiles(plain, at_random)),
        "unselected": rows_of(*attention, unselected=True),
    }
    if plain != given.model and not card.gates:
        methods["random, rest"] = rows_of(*profiles(given.model, at_random))
    uncompressed = {
        name: float((profile.head_prediction[:, -1] == profile.labels).mean())
        for name, profile in zip(("calibration", "evaluation"), attention, strict=True)
    }
    return methods, uncompressed


def image_methods(given: argparse.Namespace, named: str, splits: dict[str, Dataset]) -> dict[str, list[Row]]:
    """Rows of each image format, to the network as it is and to the one fine-tuned on such images."""
    network, data, methods = (
        load_network(given.model)[0],
        training_data(named, given.data_dir, given.seed),
        {},
    )
    for kind in FORMATS:
        methods[kind] = image_rows(network, splits, kind)
        tuned = fine_tuned(given.model, kind, data, given.work, images=given.tuning, seed=given.seed)
        methods[f"{kind}, fine-tuned"] = image_rows(tuned, splits, kind)
    return methods


def show(chosen: dict[str, Row | None], title: str, uncompressed: float) -> None:
    table = Table(title=title)
    for column in ("method", "point", "bytes", "accuracy"):
        table.add_column(column, justify="left" if column in ("method", "point") else "right")
    for method, row in chosen.items():
        if row is None:
            table.add_row(method, "none reaches it", "", "")
            continue
        setting = (f"{key} {row[key]:g}" for key in ("cut", "keep", "dims", "bits", "quality") if key in row)
        found = row["evaluation"]
        table.add_row(method, ", ".join(setting), f"{found['bytes']:.0f}", f"{found['accuracy']:.4f}")
    table.add_row("uncompressed", "", "", f"{uncompressed:.4f}")
    Console(width=110).print(table)


def summary(methods: dict[str, list[Row]], chosen: dict[str, Row | None]) -> dict[str, Any]:
    """Our bytes and accuracy on the evaluation split, and the bytes of the best rival over ours."""
    no_rivals = {"splitpoint", "random, rest"}
    if methods["top-k"] == methods["splitpoint"]:
        no_rivals.add("top-k")
    rivals = {
        method: row["evaluation"]["bytes"]
        for method, row in chosen.items()
        if row is not None and method not in no_rivals
    }
    best = min(rivals, key=lambda method: rivals[method]) if rivals else None
    ours = None if chosen["splitpoint"] is None else chosen["splitpoint"]["evaluation"]
    return {
        "bytes": None if ours is None else ours["bytes"],
        "accuracy": None if ours is None else ours["accuracy"],
        "best_rival": best,
        "rival_bytes": None if best is None else rivals[best],
        "ratio": None if best is None or ours is None else rivals[best] / ours["bytes"],
    }


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    card = load_network(given.model)[1]
    named = card.name.split("-")[0]
    given.work.mkdir(parents=True, exist_ok=True)
    splits = {
        split: some(load_data(named, split, card=card, data_dir=given.data_dir), given.samples, given.seed)
        for split in ("calibration", "evaluation")
    }
    arrays = codec_arrays(resolve(given.model))
    coder = "ans" if all(f"codec.{cut}.tables" in arrays for cut in grid_of(card).cuts) else "packed"
    methods, uncompressed = token_methods(given, named, splits, coder)
    methods |= image_methods(given, named, splits)
    target = uncompressed["calibration"] - ALLOWED_LOSS
    chosen = {method: cheapest(rows, target) for method, rows in methods.items()}
    samples = len(splits["evaluation"])
    title = f"{card.name}: cheapest within {ALLOWED_LOSS:.0%} of uncompressed, {samples} samples"
    show(chosen, title, uncompressed["evaluation"])
    RESULTS.mkdir(exist_ok=True)
    result = {
        "command": command_line(),
        "model": card.name,
        "id": card.id,
        "coder": coder,
        "samples": samples,
        "uncompressed": uncompressed,
        "chosen": chosen,
        "fronts": {method: front(rows) for method, rows in methods.items()},
    }
    path = RESULTS / f"rate_accuracy_{card.name}"
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    drawn(methods, uncompressed["evaluation"], card.name, path.with_suffix(".png"))
    print(json.dumps({"model": card.name} | summary(methods, chosen)))


if __name__ == "__main__":
    run(main)
