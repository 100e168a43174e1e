"""SQUAD on CIFAR-10: accuracy against MACs and seconds, and QUEST's pick against random ones.

    splitpoint train-pool cifar10 --data-dir DIR
    splitpoint profile-pool cifar10 --data-dir DIR --with cifar10 --batch 100
    python benchmarks/squad.py [--pool runs/pool] [--size 3]

Reads the pool's profiles alone. Thresholds, ensembles and the best rival are chosen on the calibration split; figures
are of the evaluation split, with 95 % intervals of a paired bootstrap over its samples. A method may mix two of its
thresholds at random, so what it does at a cost is on the concave hull of its curve (`curves`).

    SQUAD                 QUEST's pick, asked in rising cost; Welch's test against the runner-up; alpha is swept
    SQUAD, others         the same, compared with the mean of the other classes
    mean confidence       the same quorum, ended by the majority's mean probability
    random order          SQUAD asked in an order drawn for each sample
    static ensemble       all three to their last gate, mean of their probabilities
    NAME, RULE            each learner alone under softmax, patience and the recursive margin
    cifar10, RULE         the network of the package, about as many parameters as the ensemble together

Latency is accounted by MACs (every machine equally fast) and by the gates' seconds measured at batch 1, sequential
against sequential and parallel against parallel. In parallel all learners begin at once on machines of their own; work
that has begun when the answer stands is charged. The last line is JSON: points lost to the static ensemble and the
latency saved (bar: at most 1 at .706 or more), `gain` in points over the best dynamic scheme of one learner of the pool
at equal mean MACs (bar: 3), and QUEST's percentile among picks of its size at equal MACs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from command_line import command_line, run
from curves import Curve, Mix, at_accuracy, at_cost, interval
from quest_picks import picks_compared
from squad_curves import METRICS, Profiles, load_profiles, quorum_curve, single_curve, static_ensemble
from squad_report import drawn, report

from splitpoint.models.quest import pick
from splitpoint.policies.quorum import QuorumRule

RESULTS = Path(__file__).parent / "results"
SINGLE = ("softmax", "patience", "recursive")
BAR_LOSS, BAR_SAVED, BAR_GAIN = 1.0, 0.706, 3.0
AIMED_LOSS = 0.008
"""Of accuracy on the calibration split, a little less than the bar: the splits differ."""


def within_loss(squad: Curve, static: Curve) -> list[dict[str, Any]]:
    """SQUAD's cheapest point near the static ensemble's accuracy, for each account of latency."""
    target = float(static.accuracy[0]) - AIMED_LOSS
    full = static.right("evaluation", 0).astype(float)
    found = []
    for metric in METRICS:
        mix = at_accuracy(squad, metric, target)
        if mix is None:
            continue
        spent, whole = float(mix.cost(metric).mean()), float(static.cost("evaluation", 0, metric).mean())
        loss = full - mix.right()
        found.append(
            {
                "account": metric,
                "alpha": float(squad.thresholds[mix.low]),
                "accuracy": mix.accuracy(),
                "static_accuracy": float(full.mean()),
                "loss_points": 100 * float(loss.mean()),
                "loss_interval": [100 * x for x in interval(loss)],
                "latency": spent,
                "static_latency": whole,
                "saved": 1 - spent / whole,
                "calibration_macs": float(mix.cost("macs", "calibration").mean()),
                "mean_macs": float(mix.cost("macs").mean()),
                "mean_parallel_work": float(mix.cost("parallel_work").mean()),
                "asked": float(mix.cost("asked").mean()),
            }
        )
    return found


def best_rival(rivals: list[Curve], cost: float) -> Mix | None:
    """The most accurate on the calibration split at this mean cost in MACs or less."""
    found = [mix for mix in (at_cost(rival, "macs", cost) for rival in rivals) if mix is not None]
    return max(found, key=lambda mix: mix.accuracy("calibration")) if found else None


def gains(squad: Curve, rivals: list[Curve], costs: np.ndarray) -> list[dict[str, Any]]:
    """SQUAD's points over the best of the rivals at equal mean MACs."""
    rows = []
    for cost in costs.tolist():
        ours, theirs = at_cost(squad, "macs", cost), best_rival(rivals, cost)
        if ours is None or theirs is None:
            continue
        more = ours.right() - theirs.right()
        rows.append(
            {
                "macs": cost,
                "accuracy": ours.accuracy(),
                "macs_spent": float(ours.cost("macs").mean()),
                "rival": theirs.curve.name,
                "rival_accuracy": theirs.accuracy(),
                "rival_macs_spent": float(theirs.cost("macs").mean()),
                "gain_points": 100 * float(more.mean()),
                "interval": [100 * x for x in interval(more)],
            }
        )
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pool", default="runs/pool", help="folder of the pool's profiles, or a pool's name")
    parser.add_argument("--size", type=int, default=3)
    parser.add_argument("--network", default="cifar10", help="the learner that is no part of the pool")
    parser.add_argument(
        "--picks", type=int, default=60, help="others that QUEST's pick is compared with, at most"
    )
    parser.add_argument("--name", default="cifar10", help="of the results")
    return parser.parse_args()


def quorum_curves(profiles: Profiles, members: list[int]) -> list[Curve]:
    """SQUAD first, then its variants."""
    return [
        quorum_curve("SQUAD", profiles, members, QuorumRule()),
        quorum_curve("SQUAD, others", profiles, members, QuorumRule(compare="others")),
        quorum_curve("mean confidence", profiles, members, QuorumRule(statistic="confidence")),
        quorum_curve("random order", profiles, members, QuorumRule(), shuffled=True),
    ]


def about(profiles: Profiles) -> dict[str, Any]:
    """The learners, and how good and how dear each is."""
    calibration, evaluation = profiles["calibration"], profiles["evaluation"]
    right = evaluation.probabilities[:, :, -1].argmax(-1) == evaluation.labels
    return {
        "learners": dict(zip(calibration.names, calibration.ids, strict=True)),
        "samples": {split: len(profile) for split, profile in profiles.items()},
        "last_gate_accuracy": dict(zip(calibration.names, right.mean(axis=1).tolist(), strict=True)),
        "gate_macs": calibration.gate_macs.tolist(),
        "gate_s": calibration.gate_s.tolist(),
    }


def summary(
    near: list[dict[str, Any]],
    at_near: list[dict[str, Any]],
    over_singles: list[dict[str, Any]],
    compared: list[dict[str, Any]],
) -> dict[str, Any]:
    """The figures with bars."""
    saved = {row["account"]: row for row in near}
    best = max(over_singles, key=lambda row: row["gain_points"], default=None)
    return {
        "loss_points": {account: round(row["loss_points"], 2) for account, row in saved.items()},
        "latency_saved": {account: round(row["saved"], 4) for account, row in saved.items()},
        "gain": round(at_near[0]["gain_points"], 2) if at_near else None,
        "gain_interval": at_near[0]["interval"] if at_near else None,
        "largest_gain": best and round(best["gain_points"], 2),
        "quest_percentile": {row["size"]: row["percentile"] for row in compared},
        "met": {
            "latency": any(row["loss_points"] <= BAR_LOSS and row["saved"] >= BAR_SAVED for row in near),
            "gain": bool(at_near) and at_near[0]["gain_points"] >= BAR_GAIN,
        },
    }


def main() -> None:
    options = arguments()
    profiles = load_profiles(options.pool)
    calibration = profiles["calibration"]
    pool = [name for name in calibration.names if name != options.network]
    quest = pick(calibration, options.size, among=pool)
    members = [calibration.learner(name) for name in quest.learners]
    quorums, static = quorum_curves(profiles, members), static_ensemble(profiles, members)
    squad = quorums[0]
    singles = [
        single_curve(profiles, calibration.learner(name), rule, "single") for name in pool for rule in SINGLE
    ]
    network = []
    if options.network in calibration.names:
        place = calibration.learner(options.network)
        network = [single_curve(profiles, place, rule, "network") for rule in SINGLE]

    near = within_loss(squad, static)
    costs = squad.mean_cost("macs")[squad.hull("macs")]
    over_singles = gains(squad, singles, np.linspace(costs[0], costs[-1], 25))
    over_network = gains(squad, network, np.linspace(costs[0], costs[-1], 25))
    here = np.array([row["calibration_macs"] for row in near if row["account"] == "macs"])
    at_near = gains(squad, singles, here)
    others = {curve.name: gains(squad, [curve], here) for curve in [*quorums[1:], *network]}
    compared = [
        picks_compared(profiles, pool, size, options.picks, AIMED_LOSS)
        for size in (options.size, 5)
        if size < len(pool)
    ]
    report(near, at_near, others, compared)

    RESULTS.mkdir(exist_ok=True)
    result = {
        "command": command_line(),
        **about(profiles),
        "ensemble": list(quest.learners),
        "near_static": near,
        "others_near_static": {curve.name: within_loss(curve, static) for curve in quorums[1:]},
        "gain_near_static": at_near,
        "gain_over_singles": over_singles,
        "gain_over_network": over_network,
        "others_at_equal_macs": others,
        "quest": compared,
    }
    path = RESULTS / f"squad_{options.name}"
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    inner = [curve for curve in singles if curve.name.split(",")[0] in quest.learners]
    drawn([*quorums, *inner, *network], static, path.with_suffix(".png"))
    print(json.dumps(summary(near, at_near, over_singles, compared)))


if __name__ == "__main__":
    run(main)
