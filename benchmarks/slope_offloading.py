"""Offloading by slope against offloading by margin alone, at equal mean bytes and equal mean MACs on the device.

Reads a model's shipped profiles. A side is a set of static Decisions; what it does within two budgets is the mixture of
its Decisions that a linear program finds on the calibration profile.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from curves import SPLITS, interval
from scipy.optimize import linprog

from splitpoint.models.profile import Profile
from splitpoint.models.store import resolve
from splitpoint.policies.decision import NEVER, Decision
from splitpoint.policies.thresholds import Offloading, candidates, offloading

MARGINS, SLOPES = 16, 12
BYTES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Budgets, as shares of what the image itself costs."""
MACS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Budgets, as shares of the way from the least to the most that a device may do."""


class Side:
    """Decisions, and what they do on both splits: right (K, S), bytes and device MACs (K,)."""

    def __init__(self, profiles: dict[str, Profile], decisions: list[Decision]) -> None:
        self.decisions = decisions
        self.right: dict[str, np.ndarray] = {}
        self.nbytes: dict[str, np.ndarray] = {}
        self.macs: dict[str, np.ndarray] = {}
        for split, profile in profiles.items():
            found: list[Offloading] = [offloading(profile, decision) for decision in decisions]
            self.right[split] = np.stack([one.right for one in found])
            self.nbytes[split] = np.array([one.nbytes.mean() for one in found])
            self.macs[split] = np.array([one.device_macs.mean() for one in found])

    def mixture(self, nbytes: float, macs: float) -> np.ndarray | None:
        """Shares (K,) of the Decisions: best calibration accuracy within both budgets; None where none keeps them."""
        split = "calibration"
        found = linprog(
            -self.right[split].mean(axis=1),
            A_ub=np.stack([self.nbytes[split] / nbytes, self.macs[split] / macs]),
            b_ub=[1.0, 1.0],
            A_eq=np.ones((1, len(self.decisions))),
            b_eq=[1.0],
        )
        return np.asarray(found.x) if found.success else None

    def expected(self, shares: np.ndarray) -> float:
        """Accuracy on the calibration split."""
        return float(shares @ self.right["calibration"].mean(axis=1))

    def told(self, shares: np.ndarray) -> dict[str, float]:
        """On the evaluation split."""
        split = "evaluation"
        return {
            "accuracy": float(shares @ self.right[split].mean(axis=1)),
            "bytes": float(shares @ self.nbytes[split]),
            "macs": float(shares @ self.macs[split]),
            "calibration_accuracy": self.expected(shares),
        }


def compared(model: str, keep: float, bits: int) -> dict[str, Any]:
    """Both sides over a grid of budgets, and the mean gain of slopes in points with its interval.

    Every request that is sent has the fewest dims of the profile's grid, and this keep and width of codes.
    """
    path = resolve(model)
    profiles = {split: Profile.load(path.with_name(f"{path.stem}.{split}.npz")) for split in SPLITS}
    calibration = profiles["calibration"]
    card, dims = calibration.card, min(calibration.dims)
    margins = np.clip(candidates(calibration.head_margin, MARGINS), 0.0, NEVER).tolist()
    rises = np.clip(candidates(np.diff(calibration.head_margin, axis=1), SLOPES)[1:], -NEVER, NEVER).tolist()
    splits = list(range(1, card.depth + 1))
    plain = [Decision(0)] + [
        Decision(split, keep, dims, bits, exit_margin=m) for split, m in product(splits, margins)
    ]
    # A slope needs two exits before it, and blocks after it.
    sloped = [
        Decision(split, keep, dims, bits, exit_margin=m, offload_slope=slope)
        for split, m, slope in product(splits, margins, rises)
        if len(card.exits_within(0, split - 1)) > 1
    ]
    margin, slope = Side(profiles, plain), Side(profiles, plain + sloped)
    most_bytes = float(profiles["calibration"].request_bytes[calibration.config(0)].mean())
    rows, gains = [], []
    low, high = margin.macs["calibration"].min(), margin.macs["calibration"].max()
    for share_bytes, share_macs in product(BYTES, MACS):
        nbytes, macs = share_bytes * most_bytes, low + share_macs * (high - low)
        without, found = margin.mixture(nbytes, macs), slope.mixture(nbytes, macs)
        if without is None or found is None:
            continue
        shares = {"margin": without, "slope": found}
        # Of mixtures that are equally good on the calibration split, both sides take the same.
        if slope.expected(found) <= margin.expected(without) + 1e-9:
            shares["slope"] = np.concatenate([without, np.zeros(len(sloped))])
        more = shares["slope"] @ slope.right["evaluation"] - shares["margin"] @ margin.right["evaluation"]
        gains.append(more)
        rows.append(
            {
                "bytes": float(nbytes),
                "macs": float(macs),
                "margin": margin.told(shares["margin"]),
                "slope": slope.told(shares["slope"]),
                "share_with_slope": float(shares["slope"][len(plain) :].sum()),
                "gain_points": 100 * float(more.mean()),
            }
        )
    mean = np.mean(gains, axis=0)
    return {
        "model": card.name,
        "id": card.id,
        "samples": len(profiles["evaluation"]),
        "payload": {"keep": keep, "dims": dims, "bits": bits},
        "budgets": rows,
        "gain_points": 100 * float(mean.mean()),
        "interval": [100 * x for x in interval(mean)],
    }
