"""Whether simulation ranks policies as real processes do: utilities of a live run beside those of virtual time.

    python benchmarks/live_ordering.py                        # driving: trained, lyapunov, greedy, static ones
    python benchmarks/live_ordering.py --scenario fading --requests 800

Real device processes, a real emulator and a real server answer the requests of one seed under every policy; the engine
`profile` answers the same ones. A pair of policies counts where its 95 % intervals of the mean utility (over requests)
do not overlap, in the simulation or live: there both must agree which is better. Writes
results/live_ordering_SCENARIO.json; the last line is JSON, its `ratio` the share of those pairs that agree.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

from command_line import command_line, run

from splitpoint.sim.run import Run, make_engine, policies_named, run_policies
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

RESULTS = Path(__file__).parent / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="driving")
    parser.add_argument(
        "--policy", nargs="+", default=["trained", "lyapunov", "greedy", "best-static", "local", "server"]
    )
    parser.add_argument("--requests", type=int, default=480)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def summaries(given: argparse.Namespace, kind: str) -> dict[str, dict[str, Any]]:
    """Each policy's summary in one engine, by name."""
    scenario = load_scenario(given.scenario, {"requests": given.requests, "seed": given.seed})
    tuning = Setup(scenario)
    policies = [tuning.tuned(policy) for policy in policies_named(scenario, given.policy, kind)]
    # The processes read the scenario: it has these policies and no clairvoyant one.
    setup = Setup(scenario.model_copy(update={"policies": tuple(policies)}))
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(setup, kind, **({"folder": Path(folder)} if kind == "live" else {}))
        try:
            run = Run(setup.scenario, kind)
            run_policies(setup, run, engine, policies)
        finally:
            engine.close()
    return {summary["policy"]: summary for summary in run.summaries}


def pairs(live: dict[str, dict[str, Any]], simulated: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every pair that either engine tells apart, and whether both rank it alike."""
    found = []
    for one, other in combinations(live, 2):
        apart = [
            engine[one]["utility_ci95"][0] > engine[other]["utility_ci95"][1]
            or engine[other]["utility_ci95"][0] > engine[one]["utility_ci95"][1]
            for engine in (live, simulated)
        ]
        if any(apart):
            order = [engine[one]["utility"] > engine[other]["utility"] for engine in (live, simulated)]
            found.append(
                {
                    "pair": [one, other],
                    "apart_live": apart[0],
                    "apart_simulated": apart[1],
                    "agree": order[0] == order[1],
                }
            )
    return found


def main() -> None:
    given = arguments()
    simulated, live = summaries(given, "profile"), summaries(given, "live")
    print(
        f"{'policy':14}{'simulated':>22}{'live':>22}{'degraded':>14}{'late':>10}   (utility; simulated / live)"
    )
    for name in sorted(live, key=lambda policy: -live[policy]["utility"]):
        shown = [
            f"{engine[name]['utility']:.4f} ±{engine[name]['utility'] - engine[name]['utility_ci95'][0]:.4f}"
            for engine in (simulated, live)
        ]
        counts = [f"{simulated[name][key]} / {live[name][key]}" for key in ("degraded", "late")]
        print(f"{name:14}{shown[0]:>22}{shown[1]:>22}{counts[0]:>14}{counts[1]:>10}")
    compared = pairs(live, simulated)
    agree = sum(pair["agree"] for pair in compared)
    for pair in compared:
        if not pair["agree"]:
            print(f"not alike: {' and '.join(pair['pair'])}")
    summary = {
        "benchmark": "live_ordering",
        "scenario": given.scenario,
        "pairs": len(compared),
        "ratio": round(agree / max(1, len(compared)), 4),
        "lost": sum(line["lost"] + line["answered_twice"] for line in live.values()),
    }
    found = {
        "command": command_line(),
        "summary": summary,
        "pairs": compared,
        "live": live,
        "simulated": simulated,
    }
    path = RESULTS / f"live_ordering_{given.scenario}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(summary))


if __name__ == "__main__":
    run(main)
