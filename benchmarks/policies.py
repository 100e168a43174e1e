"""Every policy in every scenario, on the evaluation profile and on seeds and traces that no policy was tuned on.

    python benchmarks/policies.py                                    # with the trained policies of the scenarios
    python benchmarks/policies.py --policies runs/policies --train   # trains what is missing there, then compares
    python benchmarks/policies.py --scenario driving --traces TRACES.parquet
    python benchmarks/policies.py --replies-only --policies runs/replies --train    # modems report with replies only

All policies meet equal sample paths, seed by seed; ± are 95 % intervals over the seeds (Student's t). Share is
(U - U_random) / (U_oracle - U_random); the oracle is a bound only where requests do not load each other, which they do
in `cellular` and `overload`. Policies over a budget (worst device, worst seed, by more than 1 %) are marked and ranked
last. `beats` says over which feasible rivals that are not clairvoyant the trained policy's mean advantage exceeds the
paired interval. Results go to benchmarks/results/policies-SCENARIO.json; what is there of the same scenario, seeds and
policies is not run again, so that a long benchmark can be done in parts: remove what was measured before a scenario
changed. A trained policy is run again where its file is another one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from command_line import command_line, run

from splitpoint.errors import UsageError
from splitpoint.sim.intervals import mean_and_half
from splitpoint.sim.policy_config import PolicyConfig, TrainedPolicy
from splitpoint.sim.rl_evaluate import evaluate_policies
from splitpoint.sim.scenario import Scenario, load_scenario

SCENARIOS = ("steady", "fading", "driving", "cellular", "outages", "overload", "drift")
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", nargs="*", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1600)
    parser.add_argument("--policies", type=Path, help="trained policies of your own, SCENARIO.safetensors")
    parser.add_argument("--train", action="store_true", help="train what is missing there")
    parser.add_argument("--steps", type=int, default=8_000_000)
    parser.add_argument("--traces", type=Path, help="SNR traces of your own for `driving`, parquet or CSV")
    parser.add_argument("--replies-only", action="store_true", help="modems do not measure by themselves")
    parser.add_argument("--out", type=Path, default=RESULTS / "policies.json")
    options = parser.parse_args()
    if options.train and options.policies is None:
        parser.error("--train needs --policies, the folder to train into")
    options.out.parent.mkdir(exist_ok=True)
    last = {}
    for name in options.scenario:
        found = one(name, options)
        last[name] = {row["policy"]: round(row["share"], 3) for row in found["rows"]}
    print(json.dumps(last))


def one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing of one scenario, write it, print its table."""
    scenario = load_scenario(name, {"requests": options.requests})
    if options.replies_only:
        scenario = with_replies_only(scenario)
    policies: list[PolicyConfig] = list(scenario.policies)
    if options.policies is not None and any(policy.name == "trained" for policy in policies):
        path = options.policies / f"{name}.safetensors"
        if options.train and not path.exists():
            train(scenario, path, options.steps)
        if not path.is_file():
            raise UsageError(f"there is no trained policy {path}: --train makes it")
        policies = [policy for policy in policies if policy.name != "trained"]
        policies.append(TrainedPolicy(name="trained", path=path))
    if options.traces is not None and name == "driving":
        scenario = on_traces(scenario, options.traces)
    # One file a scenario, so that scenarios can be run side by side.
    out = options.out.with_name(f"{options.out.stem}-{scenario.name}.json")
    about = {"scenario": scenario.name, "seeds": options.seeds, "requests": options.requests}
    known, weights = {}, weights_id(policies)
    if out.exists():
        before = json.loads(out.read_text("utf-8"))
        known = before["runs"] if before["about"] == about else {}
        known = {policy.name: known[policy.name] for policy in policies if policy.name in known}
        if before.get("trained") != weights:
            known.pop("trained", None)
    found = evaluate_policies(scenario, policies, range(options.seeds), known=known)
    result = {
        "command": command_line(),
        "about": about,
        "trained": weights,
        "rows": found.rows,
        "beats": beats(found.runs),
        "runs": found.runs,
    }
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    show(result)
    return result


def weights_id(policies: list[PolicyConfig]) -> str | None:
    """Hash of the trained policy's file; none without such a policy."""
    paths = [policy.path for policy in policies if isinstance(policy, TrainedPolicy)]
    return hashlib.sha256(paths[0].read_bytes()).hexdigest()[:16] if paths else None


def on_traces(scenario: Scenario, path: Path) -> Scenario:
    """`driving` on recordings of your own, each device on another one, from a time drawn by the seed."""
    link = scenario.channel.link.model_dump() | {"path": str(path)}
    channel = scenario.channel.model_dump() | {"link": link}
    return Scenario.model_validate(
        scenario.model_dump() | {"channel": channel, "name": f"{scenario.name}-{path.stem}"}
    )


def with_replies_only(scenario: Scenario) -> Scenario:
    """What devices know of their links without a modem that measures by itself."""
    sections = scenario.model_dump()
    for part in (sections, sections["training"]):
        if "channel" in part:
            part["channel"]["report"]["every_s"] = None
    return Scenario.model_validate(sections | {"name": f"{scenario.name}-replies-only"})


def train(scenario: Scenario, path: Path, steps: int) -> None:
    from splitpoint.sim.rl_train import PolicyTraining, train_policy

    begun_s, cpu_s = time.monotonic(), time.process_time()
    train_policy(scenario, PolicyTraining(steps=steps), path)
    seconds, cpu_s = time.monotonic() - begun_s, time.process_time() - cpu_s
    print(f"{scenario.name}: trained in {seconds:.0f} s, {cpu_s:.0f} s of processor time")


def beats(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean advantage of the trained policy over each rival that is neither clairvoyant nor over budget, paired."""
    if "trained" not in runs:
        return {}
    mine = np.array([s["utility"] for s in runs["trained"]])
    found = {}
    for name, summaries in runs.items():
        if name == "trained" or "oracle" in name or not all(s["feasible"] for s in summaries):
            continue
        mean, half = mean_and_half(mine - [s["utility"] for s in summaries])
        found[name] = {"mean": mean, "half": half, "surely": mean > half}
    return found


def show(result: dict[str, Any]) -> None:
    about = result["about"]
    print(f"\n{about['scenario']}: {about['seeds']} seeds of {about['requests']} requests")
    print(
        f"{'':14}{'utility':>17}{'share':>7}{'acc %':>7}{'p95 ms':>7}{'B':>6}{'mJ':>5}{'over %':>8}{'recov. s':>9}"
    )
    for row in result["rows"]:
        mark = "*" if row["clairvoyant"] else "" if row["feasible"] else "!"
        recovery = "–" if row["recovery_s"] is None else f"{row['recovery_s']:.1f}"
        print(
            f"{row['policy'] + mark:14}{row['utility']:>9.4f} ±{row['utility_half']:.4f}{row['share']:>7.3f}"
            f"{100 * row['accuracy']:>7.1f}{1e3 * row['latency_p95_s']:>7.0f}{row['uplink_bytes_mean']:>6.0f}"
            f"{1e3 * row['device_energy_mean_j']:>5.0f}{100 * row['worst_violation']:>8.1f}{recovery:>9}"
        )
    for name, line in result["beats"].items():
        print(
            f"  trained - {name}: {line['mean']:+.4f} ±{line['half']:.4f}{'' if line['surely'] else ' (not sure)'}"
        )


if __name__ == "__main__":
    run(main)
