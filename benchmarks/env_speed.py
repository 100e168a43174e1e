"""Steps per second of the environments, over those of mobile-env.

    python benchmarks/env_speed.py [--peer PYTHON]

The peer is mobile-env's `mobile-small-central-v0`, installed by pip into a virtual environment of its own in
`runs/env_speed` (or given as the Python of one). All are made by Gymnasium without its passive checker, take random
actions, are warmed up and reset when an episode ends; peer, single and vector environment are timed in turn, several
times, in CPU seconds, all threads together. Ratios are to the peer's speed in the same round; the last line, which is
also written to results/env_speed.json, has the medians over the rounds. `vector` has 256 copies.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
from command_line import command_line

import splitpoint.sim.environments  # noqa: F401 - registers the ids

ROOT = Path(__file__).resolve().parent.parent
PEER = "mobile-env==2.1.0"
COPIES = 256
ROUNDS = 5

PEER_PROGRAM = """
from __future__ import annotations
import time, warnings
warnings.simplefilter("ignore")
import gymnasium, mobile_env
env = gymnasium.make("mobile-small-central-v0", disable_env_checker=True)
env.action_space.seed(0)
actions = [env.action_space.sample() for _ in range({steps})]
{walk}
single_rate(env, actions[: {steps} // 10])
print(single_rate(env, actions))
"""


def peer_python() -> Path:
    """Python of a virtual environment that has the peer, made on first use."""
    home = ROOT / "runs" / "env_speed"
    python = home / "bin" / "python"
    if not (home / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PEER], check=True)
        (home / ".installed").touch()
    return python


def peer_rate(python: Path, steps: int) -> float:
    program = PEER_PROGRAM.format(steps=steps, walk=inspect.getsource(single_rate))
    run = subprocess.run(
        [str(python), "-c", program], check=True, capture_output=True, text=True, timeout=600
    )
    return float(run.stdout.split()[-1])


def single_rate(env: Any, actions: list[Any]) -> float:
    """Steps a second, here and in the peer's own Python, which is given these lines."""
    env.reset(seed=0)
    start = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return len(actions) / (time.process_time() - start)


def vector_rate(env: Any, actions: list[Any]) -> float:
    """Steps of single copies; the environment resets itself."""
    start = time.process_time()
    for action in actions:
        env.step(action)
    return COPIES * len(actions) / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="Python that has mobile-env, instead of an own one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    python = given.peer or peer_python()
    single = gymnasium.make("splitpoint/Offload-v0", disable_env_checker=True)
    vector = gymnasium.make_vec("splitpoint/Offload-v0", COPIES, "vector_entry_point")
    single.action_space.seed(0)
    vector.action_space.seed(0)
    single_actions = [single.action_space.sample() for _ in range(20_000)]
    vector_actions = [vector.action_space.sample() for _ in range(800)]
    vector.reset(seed=0)
    single_rate(single, single_actions[:2_000])
    vector_rate(vector, vector_actions[:100])
    rounds = []
    print(f"{'round':>5} {'mobile-env/s':>13} {'single/s':>10} {'ratio':>7} {'vector/s':>10} {'ratio':>7}")
    for index in range(given.rounds):
        peer = peer_rate(python, 1_500)
        one, many = single_rate(single, single_actions), vector_rate(vector, vector_actions)
        rounds.append({"peer": peer, "single": one, "vector": many})
        print(f"{index:>5} {peer:>13.0f} {one:>10.0f} {one / peer:>7.1f} {many:>10.0f} {many / peer:>7.0f}")
    found = {
        "benchmark": "env_speed",
        "command": command_line(),
        "peer": PEER,
        "copies": COPIES,
        # Of all processes on the machine: other work takes caches away, and array code feels it most.
        "load_average": os.getloadavg()[0],
        "rounds": rounds,
        "peer_steps_per_s": median(r["peer"] for r in rounds),
        "single_steps_per_s": median(r["single"] for r in rounds),
        "single_ratio": median(r["single"] / r["peer"] for r in rounds),
        "vector_ratio": median(r["vector"] / r["peer"] for r in rounds),
        "vector_steps_per_s": median(r["vector"] for r in rounds),
    }
    (ROOT / "benchmarks" / "results" / "env_speed.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
