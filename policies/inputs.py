"""Which input lies behind each request of a device, keyed by (seed, device, request)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models.profile import Profile
from ..seeding import generator

__all__ = ["hardest_first", "input_samples"]

_HARD = 0.2
"""Share of the samples that counts as hard."""


def hardest_first(profile: Profile) -> np.ndarray:
    """Indices of the samples, int64 (S,), those first of which the network's first exit is least sure; no label."""
    return np.argsort(profile.head_margin[:, 0], kind="stable")


def input_samples(
    seed: int,
    device: int,
    arrivals_s: Sequence[float],
    samples: int,
    hard_share: Sequence[tuple[float, float]] = (),
    order: np.ndarray | None = None,
) -> list[int]:
    """Index of the sample behind each request, each as likely without a share; a longer run begins as a shorter one.

    hard_share   (from second, share): from then on this share is of the hardest fifth, the rest of the others,
                 of which the hardest quarter comes twice as often
    order        `hardest_first`, where there is a share
    """
    count = len(arrivals_s)
    drawn: np.ndarray = generator(seed, "inputs", device).integers(0, samples, count)
    if not hard_share:
        return drawn.tolist()
    assert order is not None
    times, shares = np.array(hard_share).T
    now = np.searchsorted(times, np.asarray(arrivals_s), side="right") - 1
    share = np.where(now >= 0, shares[np.maximum(now, 0)], _HARD)
    hard = generator(seed, "inputs-mix", device).random(count) < share
    edge = max(1, min(samples - 1, round(_HARD * samples)))
    places = np.where(hard, drawn % edge, edge + drawn % (samples - edge))
    found: list[int] = order[places].tolist()
    return found
