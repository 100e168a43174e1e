"""The sample path of one episode: what happens to a device whatever it decides."""

from __future__ import annotations

from typing import NamedTuple

from ...channel.config import build_link
from ...channel.link import SlottedLink
from ...seeding import generator
from ..arrivals import arrival_times
from .config import EnvironmentConfig

__all__ = ["SamplePath", "draw_path"]


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
    arrivals = begin_s + arrival_times(config.arrivals, seed, device, count)
    inputs = generator(seed, "inputs", device).integers(0, samples, count)
    return SamplePath(seed, device, arrivals.tolist(), inputs.tolist(), build_link(config.link, seed, device))
