"""Accuracy of split learning at equal bytes: ADC against no compression, Top-K, random Top-K, C3-SL, BottleNet++.

    python benchmarks/adc_split_learning.py --data-dir DIR --out DIR         # a few CPU-minutes: less of everything
    python benchmarks/adc_split_learning.py --data-dir DIR --images 10000 --patch 4 --dim 64 --depth 6 --heads 4 \
        --cut 3 --start-images 20000 --rho-batch 1                           # the results here: a day of a core
    python benchmarks/adc_split_learning.py --data-dir DIR --accelerator cuda --start-images 0 --evaluation 0 \
        --images 10000 --batch 64 --patch 4 --dim 192 --depth 9 --heads 3 --cut 4 --start-epochs 30

In process. All runs start from the same weights, trained on classes 0 to 4; the task is all ten classes. A budget is
what `--budget-epochs` uncompressed epochs cost in serialised messages, both directions, labels and indices included;
a method that sends less takes more steps, all at one learning rate. Evaluation is uncompressed, on test images. Runs
at equal epochs, with uncompressed activations and with ADC's, show what compression costs where bytes do not count.

    adc         the paper's default: as many clusters and tokens, rho_B = rho_T = sqrt(rate)
    adc, tuned  rho_B is the best of `--rho-batch` and the default on calibration images, seed 0, at the rate's budget

Results say what they lack of the whole experiment. Every run leaves a JSON file in `--out`, and runs that are there
are not made again: stop and start as you like.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import run
from split_learning_runs import Runs, Setting, Start

METHODS = ("adc", "adc, tuned", "none", "top-k", "random-top-k", "c3-sl", "bottlenet++")
OURS = ("adc", "adc, tuned")
RATES = (0.1, 0.05, 0.2, 0.5)
FULL_IMAGES = 10_000
PAPER_GAP = 0.054  # at rate .1, arXiv 2509.15058


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "adc_split_learning")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/adc-split-learning"), help="data and start weights"
    )
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seeds", type=int, default=3, help="at rate .1; the other rates have one")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument(
        "--rho-batch", type=float, nargs="+", default=[0.5, 0.75, 1.0], help="what is tried for adc, tuned"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--budget-epochs", type=int, default=5)
    parser.add_argument("--equal-epochs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no run after this time")
    for name, value in (
        ("images", 320), ("evaluation", 2000), ("batch", 32), ("patch", 8), ("dim", 48), ("depth", 4), ("heads", 3),
        ("cut", 2), ("start-images", 6000), ("start-epochs", 8),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    return parser


def wanted(given: argparse.Namespace) -> Iterator[tuple[str, str, float, int]]:
    """(kind, method, rate, seed), the most telling first."""
    main = [rate for rate in given.rates if rate == 0.1]
    # Few bytes a step are many steps: the cheap ones first.
    others = sorted((rate for rate in given.rates if rate != 0.1), reverse=True)
    for seed in range(given.seeds):
        for rate in main or given.rates[:1]:
            yield from (
                ("bytes", method, 1.0 if method == "none" else rate, seed) for method in given.methods
            )
            yield "epochs", "none", 1.0, seed
            yield from (("epochs", method, rate, seed) for method in OURS if method in given.methods)
        if seed == 0:
            yield from (
                ("bytes", method, rate, 0) for method in OURS if method in given.methods for rate in others
            )
    rivals = [method for method in given.methods if method not in (*OURS, "none")]
    for rate in others:
        if "adc" in given.methods:
            yield "epochs", "adc", rate, 0
        yield from (("bytes", method, rate, 0) for method in rivals)


def one(
    runs: Runs, given: argparse.Namespace, kind: str, method: str, rate: float, seed: int, rho_batch: float
) -> dict[str, Any]:
    """One run; of kind "choice" at equal bytes, with the accuracy on calibration images too."""
    per_epoch, name = runs.steps_per_epoch(), method
    method = "adc" if method in OURS else method
    found = {"method": name, "rho_batch": rho_batch}
    if kind == "epochs":
        return runs.run(method, rate, seed, steps=given.equal_epochs * per_epoch, rho_batch=rho_batch) | found
    budget = given.budget_epochs * per_epoch * runs.bytes_per_step("none", 1.0, 0)
    found["budget"] = budget
    if method == "none":
        return runs.run(method, rate, seed, steps=given.budget_epochs * per_epoch) | found
    steps = max(1, int(budget / runs.bytes_per_step(method, rate, seed, rho_batch)))
    result = runs.run(
        method, rate, seed, steps=steps, budget=budget, rho_batch=rho_batch, calibration=kind == "choice"
    )
    return result | found


def best(result: dict[str, Any]) -> float:
    """Accuracy, uncompressed; of a rival that learns a codec of its own, through it where that is better."""
    return max(float(result["accuracy"]), float(result.get("accuracy_through_codec", 0.0)))


def summary(results: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Rows by kind, method and rate; the bars at rate .1."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        if result["setting_key"] == key:
            groups[result["kind"], result["method"], result["rate"]].append(result)
    rows = [
        {
            "kind": kind, "method": method, "rate": rate, "seeds": len(found),
            "accuracy": round(float(np.mean([best(r) for r in found])), 4),
            "spread": round(float(np.std([best(r) for r in found], ddof=1)), 4) if len(found) > 1 else None,
            "epochs": round(float(np.mean([r["epochs"] for r in found])), 2),
            "megabytes": round(float(np.mean([r["bytes"] for r in found])) / 1e6, 3),
        }
        for (kind, method, rate), found in sorted(groups.items())
    ]  # fmt: skip

    def paired(
        ours: str, kind: str, rival: str, rate: float, accuracy: Callable[[dict[str, Any]], float] = best
    ) -> list[float]:
        mine = {r["seed"]: accuracy(r) for r in groups[kind, ours, 0.1]}
        return [mine[r["seed"]] - accuracy(r) for r in groups[kind, rival, rate] if r["seed"] in mine]

    rivals = [m for m in METHODS if m not in OURS and groups.get(("bytes", m, 1.0 if m == "none" else 0.1))]

    def compared(ours: str) -> dict[str, Any]:
        ahead = {m: paired(ours, "bytes", m, 1.0 if m == "none" else 0.1) for m in rivals}
        uncompressed = {
            m: paired(ours, "bytes", m, 1.0 if m == "none" else 0.1, itemgetter("accuracy")) for m in rivals
        }
        gap = paired(ours, "epochs", "none", 1.0)
        return {
            "ahead_at_equal_bytes": {m: round(float(np.mean(v)), 4) for m, v in ahead.items() if v},
            "ahead_of_every_rival": _ahead(ahead),
            "ahead_of_every_rival_evaluated_uncompressed": _ahead(uncompressed),
            "lost_at_equal_epochs": round(-float(np.mean(gap)), 4) if gap else None,
            "within_the_papers_gap": bool(gap) and -float(np.mean(gap)) <= PAPER_GAP,
        }

    return {"rows": rows} | {ours: compared(ours) for ours in OURS if groups.get(("bytes", ours, 0.1))}


def _ahead(gains: dict[str, list[float]]) -> bool:
    return bool(gains) and all(values and float(np.mean(values)) > 0 for values in gains.values())


def table(found: dict[str, Any]) -> str:
    lines = [
        "| runs at equal | method | rate | accuracy | spread | seeds | epochs | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        spread = "" if row["spread"] is None else f"{row['spread']:.4f}"
        lines.append(
            f"| {row['kind']} | {row['method']} | {row['rate']:g} | {row['accuracy']:.4f} | {spread} | {row['seeds']} "
            f"| {row['epochs']:.1f} | {row['megabytes']:.1f} |"
        )
    return "\n".join(lines)


def command(given: argparse.Namespace) -> str:
    """The command that leads to these results; where data lie is anybody's own."""
    changed = ""
    for name, value in vars(given).items():
        if value != parser().get_default(name) and name not in ("data_dir", "out", "work", "seconds"):
            shown = shlex.join(map(str, value)) if isinstance(value, list) else value
            changed += f" --{name.replace('_', '-')} {shown}"
    return f"python benchmarks/adc_split_learning.py --data-dir DIR{changed}"


def reductions(setting: Setting, found: dict[str, Any]) -> list[str]:
    """What is less than the whole experiment."""
    less = []
    if setting.images < FULL_IMAGES:
        less.append(f"the task has {setting.images} images instead of {FULL_IMAGES}")
    if setting.start_images:
        less.append(
            f"the start saw {setting.start_images} images of classes 0 to 4 for {setting.start_epochs} epochs"
        )
    if setting.evaluation:
        less.append(f"{setting.evaluation} test images instead of 8000")
    if setting.dim < 96 or setting.patch > 4:
        side = 32 // setting.patch
        less.append(
            f"the network has {side * side} patch tokens, {setting.depth} blocks of dim {setting.dim}"
        )
    few = [
        f"{row['method']} ({row['seeds']})"
        for row in found["rows"]
        if row["rate"] in (0.1, 1.0) and row["seeds"] < 3
    ]
    if few:
        less.append(f"fewer than three seeds at .1 for {', '.join(dict.fromkeys(few))}")
    known = {(row["method"], row["rate"]) for row in found["rows"] if row["kind"] == "bytes"}
    missing = [f"{m} at {rate:g}" for m in METHODS if m != "none" for rate in RATES if (m, rate) not in known]
    if missing:
        less.append(f"not run: {', '.join(missing)}")
    return less


def plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    rows = [row for row in found["rows"] if row["kind"] == "bytes"]
    for method in METHODS:
        of = sorted((row for row in rows if row["method"] == method), key=lambda row: row["rate"])
        if method == "none" and of:
            axes.axhline(of[0]["accuracy"], color="0.5", linestyle="--", label="no compression")
        elif of:
            spread = [row["spread"] or 0.0 for row in of]
            axes.errorbar(
                [r["rate"] for r in of],
                [r["accuracy"] for r in of],
                spread,
                marker="o",
                capsize=3,
                label=method,
            )
    axes.set(
        xscale="log",
        xlabel="wanted rate of values kept",
        ylabel="test accuracy, uncompressed\n(bottlenet++: the better of that and through its codec)",
        title="Equal bytes, both directions",
    )
    axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    given, began = parser().parse_args(), time.monotonic()
    setting = Setting(**{name: getattr(given, name) for name in Setting.__dataclass_fields__})
    shared = asdict(setting) | {"budget_epochs": given.budget_epochs, "equal_epochs": given.equal_epochs}
    key = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]
    given.out.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    start = Start(setting, given.work, given.data_dir, given.accelerator)
    runs = Runs(start, given.work)

    def result_of(kind: str, method: str, rate: float, seed: int, rho_batch: float = 0.0) -> dict[str, Any]:
        name = f"{method}-{rho_batch:g}" if kind == "choice" else method.replace(", ", "-")
        path = given.out / f"{key}-{kind}-{name}-{rate:g}-{seed}.json"
        known = json.loads(path.read_text()) if path.exists() else None
        # Where other rho_B were tried than before, another one may have been chosen.
        if known is None or (method == "adc, tuned" and known["rho_batch"] != rho_batch):
            about = {"setting_key": key, "kind": kind, "setting": shared, "device": given.accelerator}
            if kind == "bytes" and method in OURS and seed == 0:
                # The training that was tried for the choice, and its accuracy on test images, which chose nothing.
                result = result_of("choice", "adc", rate, 0, rho_batch) | about | {"method": method}
            else:
                result = about | one(runs, given, kind, method, rate, seed, rho_batch)
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(
                f"{kind:6} {name:13} {rate:<5g} seed {seed}: {best(result):.4f} after {result['epochs']:.1f} epochs",
                flush=True,
            )
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    @cache
    def tuned(rate: float) -> float:
        tried = [0.0, *(rho for rho in given.rho_batch if rho >= rate)]
        return max(
            tried, key=lambda rho: float(result_of("choice", "adc", rate, 0, rho)["calibration_accuracy"])
        )

    for kind, method, rate, seed in dict.fromkeys(wanted(given)):
        if time.monotonic() - began > given.seconds:
            break
        result_of(kind, method, rate, seed, tuned(rate) if method == "adc, tuned" else 0.0)
    results = [json.loads(path.read_text()) for path in sorted(given.out.glob(f"{key}-*.json"))]
    results = [result for result in results if result["kind"] != "choice"]
    found = summary(results, key)
    less = reductions(setting, found)
    print(table(found))
    line = {
        "benchmark": "adc_split_learning",
        "command": command(given),
        "reduced": less,
        "setting": shared,
    } | found
    (given.out / "summary.json").write_text(json.dumps(line, indent=1) + "\n")
    error = 100 * (0.25 / (setting.evaluation or 8000)) ** 0.5
    note = f"Reduced: {'; '.join(less)}.\n\n" if less else ""
    note += f"The test images alone give one accuracy a standard error of up to {error:.1f} points.\n\n"
    (given.out / "table.md").write_text(f"`{command(given)}`\n\n{note}{table(found)}\n")
    plot(found, given.out / "plot.png")
    print(json.dumps(line))


if __name__ == "__main__":
    run(main)
