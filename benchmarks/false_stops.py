"""How often a quorum is believed that knows nothing, and what calibration of alpha does about it.

    python benchmarks/false_stops.py [--pool runs/pool]

Noise votes: each learner's logits are independent normal draws of one scale, whatever the input; at scale 1 its top
class has about .3, at scale 4 about .8. Learners are asked one after another until a majority stands or cannot; the
rate is the share of wrong majorities that the test accepts, at alpha = .05 and at the alpha that calibration on one
half finds for .05, counted on the other half. "dissenters" has one value in its second sample at most and falls back on
mean confidence, for three learners always. With --pool the same for QUEST's pick: calibration split, evaluation split.

Writes results/false_stops.json; the last line is JSON: the rates of the rule's defaults, before and after.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from command_line import command_line, run
from rich.console import Console
from rich.table import Table
from squad_curves import load_profiles

from splitpoint.errors import UsageError
from splitpoint.models.quest import pick
from splitpoint.policies.quorum import QuorumRule
from splitpoint.policies.squad import QuorumTable, false_stop_alpha, quorum_table
from splitpoint.seeding import generator

RESULTS = Path(__file__).parent / "results"
COMPARED = ("runner_up", "others", "dissenters")
CASES, CLASSES, RATE = 40_000, 10, 0.05


def accepted(table: QuorumTable, labels: np.ndarray, alpha: float, compare: str) -> tuple[float, int]:
    """Share of wrong quorums that are accepted at any gate, and their number."""
    wrong = table.quorum & ~table.right(labels)
    rule = QuorumRule(alpha=alpha, compare=compare)
    return float(table.found.accepted(rule)[wrong].mean()), int(wrong.sum())


def row(what: str, compare: str, halves: list[tuple[QuorumTable, np.ndarray]]) -> dict[str, Any]:
    """Rates on the second half, alpha from the first."""
    (first, labels), (second, fresh) = halves
    before, quorums = accepted(second, fresh, RATE, compare)
    try:
        alpha = false_stop_alpha(first, labels, RATE)
    except UsageError:
        # No quorum that can be tested: alpha has no say.
        return {"votes": what, "compare": compare, "quorums": quorums, "at_default": before}
    after, _ = accepted(second, fresh, alpha, compare)
    return {
        "votes": what,
        "compare": compare,
        "quorums": quorums,
        "at_default": before,
        "alpha": alpha,
        "calibrated": after,
    }


def noise(learners: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Opinions (L, S, 1, C) and labels (S,) that have nothing to do with each other."""
    draws = generator(0, "noise-votes", learners, round(10 * scale))
    odds = np.exp(scale * draws.normal(size=(learners, CASES, 1, CLASSES)))
    said = (odds / odds.sum(axis=-1, keepdims=True)).astype(np.float16)
    return said.astype(np.float32), draws.integers(0, CLASSES, CASES)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pool", help="folder of a pool's profiles, or its name")
    parser.add_argument("--network", default="cifar10", help="the learner that is no part of the pool")
    options = parser.parse_args()
    rows = []
    half = CASES // 2
    for learners, scale, compare in product((3, 5), (1.0, 4.0), COMPARED):
        said, labels = noise(learners, scale)
        halves = [
            (quorum_table(said[:, part], compare=compare), labels[part])
            for part in (slice(half), slice(half, None))
        ]
        rows.append(row(f"noise, {learners} learners, scale {scale:g}", compare, halves))
    if options.pool:
        profiles = load_profiles(options.pool)
        calibration = profiles["calibration"]
        names = pick(calibration, 3, among=[n for n in calibration.names if n != options.network]).learners
        members = [calibration.learner(name) for name in names]
        for compare in COMPARED:
            halves = [
                (quorum_table(one.probabilities[members].astype(np.float32), compare=compare), one.labels)
                for one in profiles.values()
            ]
            rows.append(row(", ".join(names), compare, halves))

    table = Table(title="Share of wrong majorities that are believed")
    for column in ("votes", "compare", "majorities", "alpha .05", "calibrated alpha", "rate there"):
        table.add_column(column, justify="left" if column in ("votes", "compare") else "right")
    for found in rows:
        table.add_row(
            found["votes"],
            found["compare"],
            str(found["quorums"]),
            f"{found['at_default']:.3f}",
            f"{found['alpha']:.3g}" if "alpha" in found else "no test",
            f"{found['calibrated']:.3f}" if "alpha" in found else "",
        )
    Console(width=118).print(table)
    RESULTS.mkdir(exist_ok=True)
    command = command_line()
    (RESULTS / "false_stops.json").write_text(
        json.dumps({"command": command, "cases": CASES, "rows": rows}, indent=1) + "\n"
    )
    default = next(found for found in rows if found["compare"] == "runner_up")
    print(json.dumps({"at_default": default["at_default"], "calibrated": default["calibrated"]}))


if __name__ == "__main__":
    run(main)
