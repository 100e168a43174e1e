"""Requests per second of the profile engine, over the jobs per second of a plain SimPy M/D/1 queue.

    python benchmarks/sim_speed.py

Exits, deadlines, contention for the medium and batching are on. The peer is SimPy as its users write it well: one
process a job, a Resource, two events. Both are measured in turn, several times; `ratio` is the worst of the rounds
at 100 devices. Then 1 000 and 10 000 devices, at equal requests a device and equal load: time grows linearly
when `linearity`, the time per request over that of 100 devices with as many requests each, stays near 1.
"""

from __future__ import annotations

import gc
import json
import time
from typing import Any

import simpy

from splitpoint.seeding import generator
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.scenario import Scenario, load_scenario
from splitpoint.sim.setup import Setup

ROUNDS = 5
JOBS = 60_000


def m_d_1(jobs: int, load: float = 0.7) -> float:
    """Jobs per second of an M/D/1 queue in plain SimPy."""
    gaps = generator(0, "m-d-1").exponential(1.0 / load, jobs).tolist()
    env = simpy.Environment()
    server = simpy.Resource(env)

    def job() -> Any:
        with server.request() as turn:
            yield turn
            yield env.timeout(1.0)

    def source() -> Any:
        for gap in gaps:
            yield env.timeout(gap)
            env.process(job())

    env.process(source())
    return _rate(env.run, jobs)


def scenario(devices: int, requests_each: int) -> Scenario:
    """Many devices on one medium and one server, a good part of the requests sent."""
    base = load_scenario("quickstart").model_dump(mode="json")
    group = base["devices"][0] | {
        "count": devices,
        "arrivals": {"kind": "poisson", "rate_hz": 2.0},
    }
    link = base["channel"]["link"] | {"rate_scale": 0.1 * devices, "slot_s": 0.05}
    base |= {
        "devices": [group],
        "requests": devices * requests_each,
        "channel": base["channel"] | {"link": link},
        "server": base["server"] | {"macs_per_s": 2e8 * devices, "base_s": 0.1 / devices, "max_batch": 32},
        "policies": [
            {
                "kind": "static",
                "name": "split",
                "decision": {"split": 2, "keep": 0.25, "dims": 24, "bits": 4, "exit_margin": 0.997},
            }
        ],
    }
    return Scenario.model_validate(base)


def engine(devices: int, requests_each: int) -> tuple[float, float]:
    """(requests per second, fraction of the requests that were sent)."""
    setup = Setup(scenario(devices, requests_each))
    virtual = VirtualEngine(setup, "profile")
    columns: list[Any] = []
    rate = _rate(lambda: columns.append(virtual.run(setup.scenario.policies[0])), devices * requests_each)
    assert len(columns[0]["device"]) == devices * requests_each
    return rate, float(columns[0]["offloaded"].mean())


def _rate(work: Any, count: int) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return count / (time.process_time() - start)


def main() -> None:
    m_d_1(5_000)
    engine(100, 20)
    ratios, rates = [], []
    print(f"{'round':>6} {'engine, requests/s':>20} {'M/D/1, jobs/s':>15} {'ratio':>7} {'sent':>6}")
    for round_ in range(ROUNDS):
        peer = m_d_1(JOBS)
        rate, sent = engine(100, 300)
        ratios.append(rate / peer)
        rates.append(rate)
        print(f"{round_:>6} {rate:>20.0f} {peer:>15.0f} {ratios[-1]:>7.2f} {sent:>6.2f}")
    baseline = max(engine(100, 30)[0] for _ in range(3))
    growth = {}
    for devices in (1_000, 10_000):
        rate, share = engine(devices, 30)
        growth[devices] = baseline / rate
        print(
            f"{devices:>6} devices: {rate:.0f} requests/s, {share:.2f} sent, {growth[devices]:.2f} x time per request"
        )
    print(
        json.dumps(
            {
                "benchmark": "sim_speed",
                "ratio": min(ratios),
                "ratios": ratios,
                "requests_per_s": rates,
                "sent": sent,
                "linearity": growth,
            }
        )
    )


if __name__ == "__main__":
    main()
