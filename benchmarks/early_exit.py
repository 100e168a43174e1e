"""Rules for stopping early in one network, and offloading by slope against offloading by margin alone.

    python benchmarks/early_exit.py --data-dir DIR [--learner cifar10]

A. Area under the accuracy-MAC curve, from the first exit's MACs to the last's, as mean accuracy over that span.
Thresholds are chosen on the calibration split and reported on the evaluation split; a rule may mix two of its
thresholds at random (`curves`). Intervals are of a paired bootstrap over samples.

    recursive             margin of the running mean over exits
    recursive, gives up   stops as well where the margin rises by less than a slope
    softmax, entropy, patience            on each exit's own probabilities, as published
    softmax of the running mean           what the recursion alone is worth
    cumulative, repaired  each exit's own confidence, calibrated, cumulated over exits; thresholds for equal precision
                          at every exit, then lowered to the budget

B. Decisions of the shipped profiles at every split with one payload, exits by margin; and, with more learners than one,
each of the others on the device, the first on the server, which gets the image. Rules with a slope may use all that
rules without one may. For a pair of budgets (mean request bytes, mean MACs on the device), each side takes the mixture
of rules that is best on the calibration split within both (a linear program); compared on the evaluation split.
The last line is JSON: `area_gain` of recursive over the best rival, `slope_gain` of B, both in points.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from command_line import command_line, run
from curves import Curve, area, interval
from exit_curves import answers, giving_up, repaired_curve, scored_curve, softmax
from exit_logits import exit_logits
from rich.console import Console
from rich.table import Table
from slope_offloading import compared, mean_image_bytes, stronger

RESULTS = Path(__file__).parent / "results"
OWN = ("softmax", "entropy", "patience")


def rules(name: str, options: argparse.Namespace) -> tuple[list[Curve], np.ndarray, dict[str, Any]]:
    """All rules on one learner, the MACs of stopping at each exit, and what it is."""
    logits, labels, gate_macs, card = exit_logits(name, options.data_dir, options.work, options.samples)
    macs = np.cumsum(gate_macs)
    running = {split: softmax(values.astype(np.float64)) for split, values in logits.items()}
    # qbar_i = (qbar_{i-1} + q_i) / 2, and qbar_1 = q_1: the exits' own logits come back exactly enough.
    own = {
        split: softmax(np.concatenate([v[:, :1], 2 * v[:, 1:] - v[:, :-1]], axis=1).astype(np.float64))
        for split, v in logits.items()
    }
    recursive, single = answers(running, labels, macs), answers(own, labels, macs)
    target = 0.5 * (1 + float(single["calibration"].right[:, -1].mean()))
    curves = [scored_curve("recursive", "recursive", running, recursive), giving_up(running, recursive)]
    curves += [scored_curve(rule, rule, own, single) for rule in OWN]
    curves.append(scored_curve("softmax of the running mean", "softmax", running, recursive))
    curves.append(repaired_curve(own, single, macs, target))
    about = {
        "learner": card.name,
        "id": card.id,
        "samples": {split: len(values) for split, values in labels.items()},
        "macs": macs.tolist(),
        "exit_accuracy": single["evaluation"].right.mean(axis=0).tolist(),
        "running_accuracy": recursive["evaluation"].right.mean(axis=0).tolist(),
    }
    return curves, macs, about


def with_server(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Offloading from every other learner on a device to the first of them on the server."""
    first, *others = options.learner
    there, labels, _, _ = exit_logits(first, options.data_dir, options.work, options.samples)
    right = {split: values[:, -1].argmax(axis=-1) == labels[split] for split, values in there.items()}
    found = []
    for name in others:
        said, _, gate_macs, card = exit_logits(name, options.data_dir, options.work, options.samples)
        what = f"{card.name} on the device, {first} on the server"
        found.append(stronger(what, said, right, labels, np.cumsum(gate_macs), mean_image_bytes(first)))
    return found


def areas(curves: list[Curve], macs: np.ndarray) -> dict[str, Any]:
    """Each rule's area, and by how many points the recursive rule's is larger."""
    found = {curve.name: area(curve, "macs", float(macs[0]), float(macs[-1])) for curve in curves}
    ours = found["recursive"]
    return {
        name: {
            "area": float(values.mean()),
            "interval": list(interval(values)),
            "recursive_gain": 100 * float((ours - values).mean()),
            "gain_interval": [100 * x for x in interval(ours - values)],
        }
        for name, values in found.items()
    }


def drawn(found: dict[str, list[Curve]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(6 * len(found), 4.4), squeeze=False)
    for panel, (name, curves) in zip(panels[0], found.items(), strict=True):
        for curve in curves:
            points = [
                (curve.cost("evaluation", k, "macs").mean() / 1e6, curve.right("evaluation", k).mean())
                for k in curve.hull("macs")
            ]
            panel.plot(
                *zip(*points, strict=True),
                marker=".",
                lw=2 if curve.name == "recursive" else 1,
                label=curve.name,
            )
        panel.set(xlabel="mean MACs (millions)", ylabel="accuracy", title=f"{name}, evaluation split")
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--learner", nargs="+", default=["cifar10"], help="of A; B's server is the first")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--offload", nargs="+", default=["cifar10", "clutter"], help="of B: models")
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--samples", type=int, default=0, help="of each split in A; 0: all")
    parser.add_argument("--work", type=Path, default=Path("runs/early-exit"), help="logits are kept here")
    return parser.parse_args()


def show_areas(console: Console, result: dict[str, Any]) -> None:
    table = Table(title=f"{result['learner']}: area under the accuracy-MAC curve")
    for column in ("rule", "area", "recursive is better by (points)"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for rule, row in result["rules"].items():
        low, high = row["gain_interval"]
        gain = "" if rule == "recursive" else f"{row['recursive_gain']:+.2f} [{low:+.2f}, {high:+.2f}]"
        table.add_row(rule, f"{row['area']:.4f}", gain)
    console.print(table)


def show_slope(console: Console, slope: dict[str, Any]) -> None:
    table = Table(title=f"{slope['what']}: slopes against margins alone, at equal bytes and device MACs")
    for column in ("bytes", "device MACs", "margin alone", "with slopes", "share with", "gain (points)"):
        table.add_column(column, justify="right")
    for row in slope["budgets"]:
        table.add_row(
            f"{row['bytes']:.0f}",
            f"{row['macs'] / 1e6:.2f} M",
            f"{row['margin']['accuracy']:.4f}",
            f"{row['slope']['accuracy']:.4f}",
            f"{row['share_with_slope']:.2f}",
            f"{row['gain_points']:+.2f}",
        )
    console.print(table)


def summary(found: list[dict[str, Any]], slopes: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each learner the recursive rule's area and its gain over the best rival; the gains of slopes."""
    areas_told = {}
    for result in found:
        rivals = {rule: row for rule, row in result["rules"].items() if not rule.startswith("recursive")}
        best = max(rivals, key=lambda rule: rivals[rule]["area"])
        areas_told[result["learner"]] = {
            "area": round(result["rules"]["recursive"]["area"], 4),
            "best_rival": best,
            "area_gain": round(rivals[best]["recursive_gain"], 3),
            "interval": [round(x, 3) for x in rivals[best]["gain_interval"]],
        }
    return {
        "area": areas_told,
        "slope_gain": {slope["what"]: round(slope["gain_points"], 3) for slope in slopes},
        "slope_gain_interval": {slope["what"]: [round(x, 3) for x in slope["interval"]] for slope in slopes},
    }


def main() -> None:
    options = arguments()
    console = Console(width=118)
    found, plots = [], {}
    for name in options.learner:
        curves, macs, about = rules(name, options)
        found.append({**about, "rules": areas(curves, macs)})
        plots[about["learner"]] = curves
        show_areas(console, found[-1])
    slopes = [compared(model, options.keep, options.bits) for model in options.offload]
    slopes += with_server(options)
    for slope in slopes:
        show_slope(console, slope)

    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"early_exit_{found[0]['learner']}"
    result = {"command": command_line(), "learners": found, "slopes": slopes}
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    drawn(plots, path.with_suffix(".png"))
    print(json.dumps(summary(found, slopes)))


if __name__ == "__main__":
    run(main)
