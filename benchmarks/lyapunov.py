"""Drift-plus-penalty control on an i.i.d. channel: the utility's gap falls as 1/V, the backlog grows as V.

    python benchmarks/lyapunov.py [--out docs/lyapunov.png]

The best utility within the budget is that of the linear program over all randomised policies. The last line of JSON
has gap times V and backlog over V for each V: both come to constants, the latter to the price of the budget.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from splitpoint.policies.budgets import Budgets
from splitpoint.policies.greedy import GreedyTables
from splitpoint.policies.iid_channel import IidChannel, best_within
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

VS = (40.0, 80.0, 160.0, 320.0, 640.0)
AIRTIME_S = 0.006


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--requests", type=int, default=60_000)
    options = parser.parse_args()
    setup = Setup(load_scenario("quickstart"))
    prices = [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 4.0)]
    tables = GreedyTables(setup.calibration, setup.deployment(0), (0.5, 0.95), prices)
    budgets = Budgets(airtime_s=AIRTIME_S)
    channel = IidChannel(tables.predicted, budgets, requests=options.requests, seed=0)
    best, price = best_within(channel)
    runs = [channel.control(v) for v in VS]
    gaps = [best - run.utility for run in runs]
    for v, gap, run in zip(VS, gaps, runs, strict=True):
        print(f"V {v:4.0f}  gap {gap:.5f}  gap·V {gap * v:.3f}  backlog {run.mean_backlog:7.2f}  "
              f"backlog/V {run.mean_backlog / v:.4f}  cost/budget {run.cost:.4f}")  # fmt: skip
    if options.out is not None:
        plot(options.out, gaps, [run.mean_backlog for run in runs], price)
    print(json.dumps({
        "best_utility": best, "price": price, "v": VS, "gap_times_v": [g * v for g, v in zip(gaps, VS, strict=True)],
        "backlog_over_v": [run.mean_backlog / v for run, v in zip(runs, VS, strict=True)],
    }))  # fmt: skip


def plot(path: Path, gaps: list[float], backlogs: list[float], price: float) -> None:
    fig = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = fig.subplots(1, 2)
    left.loglog(VS, gaps, "o-", color="#0072b2", label="measured")
    left.loglog(VS, [gaps[-1] * VS[-1] / v for v in VS], "--", color="#9e9e9e", label="1/V")
    left.set_xticks(VS, [f"{v:g}" for v in VS])
    left.minorticks_off()
    left.set_ylabel("utility below the best")
    right.plot(VS, backlogs, "o-", color="#d55e00", label="measured")
    right.plot(VS, [price * v for v in VS], "--", color="#9e9e9e", label="price of the budget · V")
    right.set_ylabel("mean backlog")
    for ax in (left, right):
        ax.set_xlabel("V")
        ax.legend(frameon=False)
    fig.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
