"""Training regimes of an early-exit learner: mixed, joint and disjoint, at equal epochs, three seeds.

    python benchmarks/regimes.py --data-dir DIR                # CIFAR-10, the learner `residual` of its pool

Each seed has its own first weights, augmentation and training samples, the same for all regimes; `--images` of the
training split are seen in each of `--epochs`. Mixed and disjoint spend `--backbone-share` of the epochs on the backbone
with its last exit. Figures are of the evaluation split: accuracy at every gate, and along the accuracy-MAC curve of the
exit margin, whose threshold is chosen on the calibration split for each budget of mean MACs. Runs that are done are
read from `--work`.

Writes results/regimes_POOL.json and .png. The last line is JSON: for each regime the mean over seeds of the last gate's
accuracy and of the area under the curve (mean accuracy over the budgets), each with its spread over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import command_line, run
from numpy.typing import NDArray

from splitpoint.errors import UsageError, did_you_mean
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.learner import Learner, load_learner
from splitpoint.models.pool import learner_data, train_learner
from splitpoint.models.pool_config import LearnerConfig, pool_configs
from splitpoint.seeding import generator

RESULTS = Path(__file__).parent / "results"
REGIMES = ("mixed", "joint", "disjoint")
BUDGETS = 12


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pool", default="cifar10")
    parser.add_argument("--learner", default="residual")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--backbone-share", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/regimes"), help="trained learners are kept here"
    )
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds: a spread needs at least two")
    return given


def config(given: argparse.Namespace, regime: str, seed: int) -> LearnerConfig:
    bases = {one.name.removeprefix(f"{given.pool}-"): one for one in pool_configs(given.pool)}
    if given.learner not in bases:
        raise UsageError(f"unknown learner '{given.learner}'; {did_you_mean(given.learner, bases)}")
    base = bases[given.learner]
    own = int(generator(seed, "regimes").integers(1 << 31))
    changes = {"seed": own, "regime": regime, "epochs": given.epochs, "small_share": 0.0, "share": 1.0}
    card = base.card.model_copy(update={"name": f"{base.name}-{regime}-{seed}"})
    return base.model_copy(update=changes | {"card": card, "backbone_share": given.backbone_share})


def opinions(learner: Learner, data: Dataset) -> NDArray[np.float32]:
    """(S, G, C)."""
    parts = [learner.opinions(data.images[at : at + 250]) for at in range(0, len(data), 250)]
    return np.concatenate(parts).astype(np.float32)


def at_threshold(
    said: NDArray[np.float32], labels: NDArray[np.int64], macs: NDArray[np.int64], threshold: float
) -> tuple[float, float]:
    """Accuracy and mean MACs where the first gate with a margin from `threshold` answers, or the last."""
    top = np.sort(said, axis=-1)
    stops = top[..., -1] - top[..., -2] >= threshold
    stops[:, -1] = True
    gate = stops.argmax(axis=1)
    right = said[np.arange(len(said)), gate].argmax(axis=-1) == labels
    return float(right.mean()), float(np.cumsum(macs)[gate].mean())


def curve(
    calibration: tuple[NDArray[np.float32], NDArray[np.int64]],
    evaluation: tuple[NDArray[np.float32], NDArray[np.int64]],
    macs: NDArray[np.int64],
) -> list[tuple[float, float]]:
    """(accuracy, mean MACs) on the evaluation split for budgets from the first gate's MACs to all of them."""
    found = []
    thresholds = np.linspace(0.0, 1.0, 201)
    cost = np.array([at_threshold(*calibration, macs, t)[1] for t in thresholds])
    for budget in np.linspace(macs[0], macs.sum(), BUDGETS):
        # The highest threshold within the budget: mean MACs rise with it.
        place = int(np.searchsorted(cost, budget + 1e-6, side="right")) - 1
        found.append(at_threshold(*evaluation, macs, float(thresholds[max(0, place)])))
    return found


def measured(given: argparse.Namespace, splits: dict[str, Dataset], regime: str, seed: int) -> dict[str, Any]:
    one = config(given, regime, seed)
    rows = generator(seed, "regimes-samples").permutation(len(splits["train"]))[: given.images]
    train = splits["train"]
    own = splits | {"train": Dataset(train.images[rows], train.labels[rows], train.classes)}
    learner = load_learner(
        train_learner(one, learner_data(one, own.__getitem__), given.work, "benchmarks/regimes.py")
    )
    said = {
        name: (opinions(learner, splits[name]), splits[name].labels) for name in ("calibration", "evaluation")
    }
    evaluated, labels = said["evaluation"]
    points = curve(said["calibration"], said["evaluation"], np.array(learner.gate_macs))
    return {
        "regime": regime,
        "seed": seed,
        "gates": [
            round(float((evaluated[:, g].argmax(-1) == labels).mean()), 4) for g in range(learner.gates)
        ],
        "curve": [(round(accuracy, 4), round(macs)) for accuracy, macs in points],
        "area": round(float(np.mean([accuracy for accuracy, _ in points])), 4),
        "train_s": learner.card.training["seconds"],
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5))
    for regime in REGIMES:
        curves = np.array([row["curve"] for row in rows if row["regime"] == regime])
        mean, spread = curves.mean(axis=0), curves[:, :, 0].std(axis=0, ddof=1)
        line = axes.plot(mean[:, 1] / 1e6, mean[:, 0], marker=".", label=regime)[0]
        axes.fill_between(
            mean[:, 1] / 1e6, mean[:, 0] - spread, mean[:, 0] + spread, alpha=0.2, color=line.get_color()
        )
    axes.set_xlabel("mean MACs (millions)")
    axes.set_ylabel("accuracy")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    splits = {
        name: load_data(given.pool, name, data_dir=given.data_dir)
        for name in ("train", "calibration", "evaluation")
    }
    rows = [measured(given, splits, regime, seed) for seed in range(given.seeds) for regime in REGIMES]
    print(f"{'regime':10} {'gate accuracies':28} {'area':>7} {'training s':>10}")
    summary = {}
    for regime in REGIMES:
        own = [row for row in rows if row["regime"] == regime]
        gates = np.array([row["gates"] for row in own])
        areas = np.array([row["area"] for row in own])
        shown = " ".join(f"{m:.3f}±{s:.3f}" for m, s in zip(gates.mean(0), gates.std(0, ddof=1), strict=True))
        print(f"{regime:10} {shown:36} {areas.mean():.4f} {np.mean([row['train_s'] for row in own]):10.0f}")
        summary[regime] = {
            "last_gate": round(float(gates[:, -1].mean()), 4),
            "last_gate_std": round(float(gates[:, -1].std(ddof=1)), 4),
            "area": round(float(areas.mean()), 4),
            "area_std": round(float(areas.std(ddof=1)), 4),
        }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"regimes_{given.pool}.json").write_text(
        json.dumps({"command": command_line(), "summary": summary, "runs": rows}, indent=1) + "\n"
    )
    plot(rows, RESULTS / f"regimes_{given.pool}.png")
    print(json.dumps(summary))


if __name__ == "__main__":
    run(main)
