"""Offloading by slope against offloading by margin alone, at equal mean bytes and equal mean MACs on the device.

A side is a set of rules; what it does within two budgets is the mixture of its rules that a linear program finds on the
calibration split. The side with slopes may use all that the other may.

    compared   a model's shipped profiles: the server runs the tail of the same network on compressed tokens
    stronger   a small learner on the device, a stronger network on the server, which gets the image
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from curves import SPLITS, interval
from exit_curves import softmax
from scipy.optimize import linprog

from splitpoint.models.profile import Profile
from splitpoint.models.store import resolve
from splitpoint.policies.decision import NEVER, Decision
from splitpoint.policies.early_exit import scores
from splitpoint.policies.thresholds import Offloading, candidates, offloading

MARGINS, SLOPES = 16, 12
BYTES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Budgets, as shares of what the image itself costs."""
MACS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Budgets, as shares of the way from the least to the most that a device may do."""

Found = dict[str, list[Offloading]]
"""Of each split, what each rule does."""


class Side:
    """What rules do on both splits: right (K, S), bytes and device MACs (K,)."""

    def __init__(self, found: Found) -> None:
        self.right = {split: np.stack([one.right for one in rules]) for split, rules in found.items()}
        self.nbytes = {
            split: np.array([one.nbytes.mean() for one in rules]) for split, rules in found.items()
        }
        self.macs = {
            split: np.array([one.device_macs.mean() for one in rules]) for split, rules in found.items()
        }
        self.expected = self.right["calibration"].mean(axis=1)

    def mixture(self, nbytes: float, macs: float) -> np.ndarray | None:
        """Shares (K,) of the rules: best calibration accuracy within both budgets; None where none keeps them."""
        split = "calibration"
        found = linprog(
            -self.expected,
            A_ub=np.stack([self.nbytes[split] / nbytes, self.macs[split] / macs]),
            b_ub=[1.0, 1.0],
            A_eq=np.ones((1, len(self.expected))),
            b_eq=[1.0],
        )
        return np.asarray(found.x) if found.success else None

    def told(self, shares: np.ndarray) -> dict[str, float]:
        """On the evaluation split."""
        split = "evaluation"
        return {
            "accuracy": float(shares @ self.right[split].mean(axis=1)),
            "bytes": float(shares @ self.nbytes[split]),
            "macs": float(shares @ self.macs[split]),
            "calibration_accuracy": float(shares @ self.expected),
        }


def over_budgets(plain: Found, sloped: Found, most_bytes: float) -> dict[str, Any]:
    """Both sides over a grid of budgets, and the mean gain of slopes in points with its interval."""
    margin, slope = Side(plain), Side({split: plain[split] + sloped[split] for split in SPLITS})
    low, high = margin.macs["calibration"].min(), margin.macs["calibration"].max()
    rows, gains = [], []
    for share_bytes, share_macs in product(BYTES, MACS):
        nbytes, macs = share_bytes * most_bytes, low + share_macs * (high - low)
        without, found = margin.mixture(nbytes, macs), slope.mixture(nbytes, macs)
        if without is None or found is None:
            continue
        # Of mixtures that are equally good on the calibration split, both sides take the same.
        if found @ slope.expected <= without @ margin.expected + 1e-9:
            found = np.concatenate([without, np.zeros(len(slope.expected) - len(without))])
        more = found @ slope.right["evaluation"] - without @ margin.right["evaluation"]
        gains.append(more)
        rows.append(
            {
                "bytes": float(nbytes),
                "macs": float(macs),
                "margin": margin.told(without),
                "slope": slope.told(found),
                "share_with_slope": float(found[len(without) :].sum()),
                "gain_points": 100 * float(more.mean()),
            }
        )
    mean = np.mean(gains, axis=0)
    return {
        "budgets": rows,
        "gain_points": 100 * float(mean.mean()),
        "interval": [100 * x for x in interval(mean)],
    }


def _profiles(model: str) -> dict[str, Profile]:
    path = resolve(model)
    return {split: Profile.load(path.with_name(f"{path.stem}.{split}.npz")) for split in SPLITS}


def compared(model: str, keep: float, bits: int) -> dict[str, Any]:
    """Every request that is sent has the fewest dims of the profile's grid, and this keep and width of codes."""
    profiles = _profiles(model)
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

    def found(decisions: list[Decision]) -> Found:
        return {split: [offloading(profiles[split], one) for one in decisions] for split in SPLITS}

    most_bytes = float(calibration.request_bytes[calibration.config(0)].mean())
    return {
        "what": f"{card.name} on both sides",
        "samples": len(profiles["evaluation"]),
        "payload": {"keep": keep, "dims": dims, "bits": bits},
        **over_budgets(found(plain), found(sloped), most_bytes),
    }


def stronger(
    name: str,
    said: dict[str, np.ndarray],
    right_there: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    macs: np.ndarray,
    image_bytes: float,
) -> dict[str, Any]:
    """A learner on the device that goes on gate by gate or sends the image.

    said         running logits (S, G, C) of each split; right_there: whether the server's answer is right, (S,)
    macs         (G,) of stopping at each gate; image_bytes: of a request, the mean of all
    """
    odds = {split: softmax(values.astype(np.float64)) for split, values in said.items()}
    margins = {split: scores("recursive", values) for split, values in odds.items()}
    right = {split: values.argmax(axis=-1) == labels[split][:, None] for split, values in odds.items()}
    gates = len(macs)

    def rule(split: str, last: int, sends: bool, margin: float, slope: float) -> Offloading:
        """Stop at the first sure gate; at gate `last` send, or answer; send before it where a slope is too small."""
        m = margins[split]
        at, sent, running = np.full(len(m), last), np.full(len(m), sends), np.ones(len(m), dtype=bool)
        for gate in range(last + 1):
            sure = running & (m[:, gate] >= margin)
            slow = (
                running & ~sure & (m[:, gate] - m[:, gate - 1] < slope) if 0 < gate < last else sure & False
            )
            at[sure | slow], sent[sure], sent[slow] = gate, False, True
            running &= ~(sure | slow)
        own = right[split][np.arange(len(m)), at]
        return Offloading(np.where(sent, right_there[split], own), macs[at], np.where(sent, image_bytes, 0.0))

    values = candidates(margins["calibration"], MARGINS).tolist()
    rises = candidates(np.diff(margins["calibration"], axis=1), SLOPES)[1:].tolist()
    ends = [*((last, True) for last in range(gates)), (gates - 1, False)]
    plain = {split: [rule(split, *end, m, -np.inf) for end, m in product(ends, values)] for split in SPLITS}
    sloped = {
        split: [rule(split, *end, m, s) for end, m, s in product(ends[2:], values, rises)] for split in SPLITS
    }
    return {
        "what": name,
        "samples": len(labels["evaluation"]),
        "image_bytes": image_bytes,
        **over_budgets(plain, sloped, image_bytes),
    }


def mean_image_bytes(model: str) -> float:
    """Of a request that carries the image losslessly, from the model's calibration profile."""
    calibration = _profiles(model)["calibration"]
    return float(calibration.request_bytes[calibration.config(0)].mean())
