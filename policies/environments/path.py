"""The sample path of an episode: what happens to a device whatever it decides. One device's, or that of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...channel.config import build_link
from ...channel.draws import NormalDraws, UniformDraws
from ...channel.link import GIVE_UP_S
from ...channel.slotted_link import SlottedLink
from ...seeding import generator
from ..arrivals import arrival_rows, arrival_times
from ..inputs import input_samples
from .bank import LinkBank
from .config import EnvironmentConfig
from .many import Paths

__all__ = ["SamplePath", "draw_bank", "draw_path", "draw_paths", "stack_paths"]


class SamplePath(NamedTuple):
    """One device's requests and link.

    seed, device   key of the link's losses and of the modem's errors
    arrivals_s     when each request arrives, rising; one more than the episode has steps, for the last observation
    samples        index into the Profile of the input behind each request
    link           its SNR, rate, loss and outages over time
    """

    seed: int
    device: int
    arrivals_s: list[float]
    samples: list[int]
    link: SlottedLink


def draw_path(config: EnvironmentConfig, seed: int, device: int, samples: int) -> SamplePath:
    """The path that this seed gives a device: arrivals, inputs and link as an engine draws them from its own seed.

    samples: how many the Profile has.
    """
    count = config.episode_requests + 1
    begin_s = 0.0
    if config.start_spread_s:
        begin_s = config.start_spread_s * float(generator(seed, "episode-start").random())
    arrivals: list[float] = (begin_s + arrival_times(config.arrivals, seed, device, count)).tolist()
    inputs = input_samples(seed, device, arrivals, samples)
    return SamplePath(seed, device, arrivals, inputs, build_link(config.link, seed, device))


def draw_paths(
    config: EnvironmentConfig, bank: LinkBank, draws: np.random.Generator, copies: int, samples: int
) -> Paths:
    """The paths of one episode of N copies, from one generator; links are drawn from the bank."""
    shape = config.episode_requests + 1, copies
    begin_s = draws.uniform(0.0, config.start_spread_s, copies)
    arrivals = arrival_rows(config.arrivals, draws, copies, shape[0])
    inputs = draws.integers(0, samples, shape)
    # Who loses nothing needs no draws for it.
    up, down = (np.broadcast_to(0.0, shape) if bank.lossless else draws.random(shape) for _ in range(2))
    normal = draws.standard_normal(shape)
    # More measurements than requests take their errors over again: no two of them are near each other.
    own_normal = draws.standard_normal(shape) if config.report.every_s else np.zeros((1, copies))
    path = draws.integers(0, len(bank), copies)
    times_s = np.add(arrivals.T, bank.origin_s[path] + begin_s, out=np.empty(shape))
    return Paths(times_s, inputs, up, down, normal, own_normal, bank, path)


def draw_bank(config: EnvironmentConfig, seed: int, paths: int) -> LinkBank:
    """Links for `draw_paths`: those of devices 0 to paths - 1, as long as an episode is likely to be."""
    draws = generator(seed, "bank")
    last_s = arrival_rows(config.arrivals, draws, 64, config.episode_requests + 1)[:, -1].max()
    seconds = config.start_spread_s + 1.1 * float(last_s) + GIVE_UP_S
    return LinkBank([build_link(config.link, seed, device) for device in range(paths)], seconds)


def stack_paths(config: EnvironmentConfig, paths: Sequence[SamplePath], depth_s: float) -> Paths:
    """Given paths of equal length as those of N copies; depth_s: all blocks on the device, the longest answer."""
    count = len(paths[0].arrivals_s)
    arrivals = np.array([path.arrivals_s for path in paths]).T
    losses = [UniformDraws(path.seed, "loss", path.device) for path in paths]
    errors, own_errors = (
        [NormalDraws(path.seed, component, path.device) for path in paths]
        for component in ("snr-report", "snr-measurement")
    )
    seconds = float(arrivals.max()) + count * (config.deadline_s + depth_s) + GIVE_UP_S
    # As on the wire: request ids start from 1, keys are even on the way up and odd on the way down.
    ids = range(1, count + 1)
    bank = LinkBank([path.link for path in paths], seconds)
    measurements = range(math.ceil(seconds / config.report.every_s) if config.report.every_s else 1)
    return Paths(
        np.ascontiguousarray(arrivals + bank.origin_s),
        np.array([path.samples for path in paths]).T.copy(),
        np.array([[draws[2 * i] for draws in losses] for i in ids]),
        np.array([[draws[2 * i + 1] for draws in losses] for i in ids]),
        np.array([[draws[i] for draws in errors] for i in ids]),
        np.array([[draws[i] for draws in own_errors] for i in measurements]),
        bank,
        np.arange(len(paths)),
    )
