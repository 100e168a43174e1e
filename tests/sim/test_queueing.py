"""Queues of the virtual-time engine against the closed forms for M/D/1, M/G/1 and M/M/1."""

from __future__ import annotations

import numpy as np
import pytest

from splitpoint.channel.config import ConstantConfig, build_link, build_medium
from splitpoint.channel.medium_config import DedicatedConfig, FifoConfig, SnrReportConfig, build_report
from splitpoint.device.agent import Agent
from splitpoint.device.effects import Reading, Reply
from splitpoint.device.session import Session
from splitpoint.models.card import read_card
from splitpoint.models.store import resolve
from splitpoint.policies.decision import NEVER, Decision
from splitpoint.policies.guard import GuardedPolicy
from splitpoint.policies.rules import Power
from splitpoint.policies.service_time import Pace
from splitpoint.policies.static import Static
from splitpoint.seeding import generator
from splitpoint.sim.backends import Upload
from splitpoint.sim.records import table
from splitpoint.sim.virtual import VirtualDevice, VirtualRun
from splitpoint.sim.virtual_server import VirtualServer

CARD = read_card(resolve("clutter"))
LOAD = 0.7
BATCHES = 20


class _Backend:
    """Exit 0 answers a fixed part of the samples; requests have the sizes it is given."""

    reply_bytes = 1

    def __init__(self, sure: np.ndarray, nbytes: np.ndarray) -> None:
        self._sure = sure.tolist()
        self._nbytes = nbytes.tolist()

    def reading(self, sample: int, exit: int, keep: float) -> Reading:
        return Reading(0, 1.0 if exit or self._sure[sample] else 0.0, exit)

    def upload(self, sample: int, cut: int, decision: Decision) -> Upload:
        return Upload(self._nbytes[sample], CARD.patch_tokens + 1, None)

    def serve(self, cut: int, uploads: list[Upload], exit_margins: list[float]) -> list[Reply]:
        return [Reply(0, 1.0, len(CARD.exits) - 1) for _ in uploads]


def _run(
    backend: _Backend,
    decision: Decision,
    block_s: tuple[float, ...],
    arrivals: list[list[float]],
    rate_bps: float,
) -> dict[str, np.ndarray]:
    uplink = build_medium(FifoConfig())
    devices = []
    samples = iter(range(10**9))
    for index, times in enumerate(arrivals):
        link = build_link(ConstantConfig(rate_bps=rate_bps, round_trip_s=0.0), 0, index)
        session = Session(
            Agent(CARD.exits, block_s, 0.0),
            GuardedPolicy(Static(decision), CARD, Decision(CARD.depth)),
            Power(1, 1, 1, 1),
            deadline_s=1e6,
            coherence_s=1.0,
            battery_j=float("inf"),
        )
        report = build_report(SnrReportConfig(), link, 0)
        own = [next(samples) for _ in times]
        devices.append(VirtualDevice(index, session, link, report, 0.0, times, own))

    def server(env: object, replied: object, lost: object) -> VirtualServer:
        fast = Pace(0.0, 1e18)
        return VirtualServer(env, backend, CARD, fast, 64, 10**6, (), replied, lost)  # type: ignore[arg-type]

    run = VirtualRun(devices, backend, uplink, build_medium(DedicatedConfig()), server, probe_s=1.0)
    return table(run.run(), np.zeros(next(samples), np.int64), 1e6)


def _agrees(waits: np.ndarray, theory_s: float) -> None:
    """Batch means: theory lies within the 99 % interval of the mean wait, which is itself tight."""
    warm = waits[len(waits) // 10 :]
    means = np.array([part.mean() for part in np.array_split(warm, BATCHES)])
    half = 2.86 * means.std(ddof=1) / np.sqrt(BATCHES)  # Student's t with 19 degrees of freedom
    assert half < 0.15 * theory_s
    assert abs(means.mean() - theory_s) < half


def _poisson(rate_hz: float, count: int, key: int) -> list[float]:
    return np.cumsum(generator(11, "queue", key).exponential(1.0 / rate_hz, count)).tolist()


def test_device_with_one_service_time_is_an_m_d_1_queue() -> None:
    count, service_s = 60_000, 1.0
    backend = _Backend(np.zeros(count, bool), np.ones(count))
    block_s = tuple(np.linspace(0.0, service_s, CARD.depth + 1).tolist())
    columns = _run(backend, Decision(CARD.depth), block_s, [_poisson(LOAD / service_s, count, 0)], 1e9)
    _agrees(columns["start_s"] - columns["arrival_s"], LOAD * service_s / (2 * (1 - LOAD)))


def test_device_with_early_exits_is_an_m_g_1_queue() -> None:
    count, early, late_s = 60_000, 0.6, 1.0
    sure = generator(3, "sure").random(count) < early
    block_s = tuple(np.linspace(0.0, late_s, CARD.depth + 1).tolist())
    early_s = block_s[CARD.exits[0]]
    # A sample that exit 0 is not sure of is answered by exit 1.
    second_s = block_s[CARD.exits[1]]
    mean_s = early * early_s + (1 - early) * second_s
    square = early * early_s**2 + (1 - early) * second_s**2
    rate_hz = LOAD / mean_s
    backend = _Backend(sure, np.ones(count))
    decision = Decision(CARD.depth, exit_margin=0.5)
    columns = _run(backend, decision, block_s, [_poisson(rate_hz, count, 1)], 1e9)
    assert columns["local"].all()
    _agrees(columns["start_s"] - columns["arrival_s"], rate_hz * square / (2 * (1 - LOAD)))


@pytest.mark.parametrize("devices", [40])
def test_shared_medium_with_exponential_messages_is_an_m_m_1_queue(devices: int) -> None:
    each, mean_bytes = 1_200, 100_000.0
    count = devices * each
    nbytes = np.maximum(1, generator(5, "bytes").exponential(mean_bytes, count)).astype(int)
    # 40 B of header for each 1 400 B, a ceiling that messages of 100 kB hardly feel.
    mean_bits = 8.0 * float((nbytes + 40 * np.ceil(nbytes / 1400)).mean())
    rate_bps = mean_bits  # one second a message
    arrivals = [_poisson(LOAD / devices, each, 100 + d) for d in range(devices)]
    backend = _Backend(np.zeros(count, bool), nbytes)
    decision = Decision(0, exit_margin=NEVER)
    columns = _run(backend, decision, (0.0,) * (CARD.depth + 1), arrivals, rate_bps)
    assert not columns["local"].any()
    order = np.argsort(columns["start_s"])
    # Only while all devices are busy is the load what it should be.
    end_s = min(times[-1] for times in arrivals)
    inside = columns["start_s"][order] < end_s
    waits = (columns["uplink_s"] - columns["airtime_up_s"])[order][inside]
    _agrees(waits, LOAD / (1 - LOAD))
