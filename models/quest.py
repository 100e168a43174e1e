"""QUEST (arXiv 2601.22711): which learners of a pool make an ensemble whose early opinions are good and differ.

    J(S) = mean over gates of CE(mean of the members' probabilities)  -  lambda D(S)
    D(S) = mean over gates and pairs of members of the share of samples on which their predictions differ

The E learners with the least J are taken, of all combinations: a pool is small. Which loss is joint, and lambda,
are ours. lambda = 1 was chosen on the calibration split of the CIFAR-10 pool: with less, the first gate's loss
outweighs the rest and the members come to resemble each other; from 2 on, learners are taken because they err.
Rivals for comparison: random members, the most accurate ones, and a greedy choice that knows no diversity. All of
them read the calibration split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError
from ..seeding import generator
from ..whole_file import whole_file
from .pool_profile import LEARNERS, PoolProfile

__all__ = ["Pick", "disagreement", "ensemble", "joint_loss", "pick", "write_ensembles"]

_LAMBDA = 1.0
"""Weight of diversity in J, in nats for each unit of disagreement."""

_SMALLEST = 1e-6

Method = Literal["quest", "random", "accuracy", "greedy"]


class Pick(NamedTuple):
    """Names in rising cost (MACs of all gates), as SQUAD asks them; joint loss in nats, disagreement in [0, 1]."""

    learners: tuple[str, ...]
    loss: float
    disagreement: float


def joint_loss(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Cross-entropy of the members' mean, (E, S, G, C) and labels (S,), mean over samples and gates; in nats."""
    mean = np.asarray(probabilities, dtype=np.float32).mean(axis=0)
    own = np.take_along_axis(mean, labels[:, None, None], axis=2)[..., 0]
    return float(-np.log(np.maximum(own, _SMALLEST)).mean())


def disagreement(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """(L, L): share of samples on which two learners' predictions differ, mean over gates; (L, S, G, C) in."""
    said = np.asarray(probabilities).argmax(axis=-1)
    return np.stack([(said != one).mean(axis=(1, 2)) for one in said])


def _mean_disagreement(pairs: NDArray[np.float64], members: Sequence[int]) -> float:
    count = len(members)
    return float(pairs[np.ix_(members, members)].sum() / (count * (count - 1))) if count > 1 else 0.0


def pick(
    profile: PoolProfile,
    size: int,
    method: Method = "quest",
    *,
    among: Sequence[str] | None = None,
    diversity: float = _LAMBDA,
    seed: int = 0,
) -> Pick:
    """Choose `size` learners of a calibration profile, or of its learners `among`.

    method  "quest"; "random": by `seed`; "accuracy": the best at the last gate; "greedy": one after the other, the
            one that lowers the joint loss most
    UsageError for another split's profile or a size that the pool does not have.
    """
    profile.require("calibration")
    known = [profile.learner(name) for name in (profile.names if among is None else among)]
    if not 1 <= size <= len(known):
        raise UsageError(f"an ensemble of {size} cannot be picked from {len(known)} learners")
    said = profile.probabilities.astype(np.float32)
    pairs = disagreement(said)

    def loss(members: Sequence[int]) -> float:
        return joint_loss(said[list(members)], profile.labels)

    chosen: Sequence[int]
    if method == "random":
        chosen = generator(seed, "random-ensemble", size).choice(known, size, replace=False).tolist()
    elif method == "accuracy":
        right = (said[:, :, -1].argmax(axis=-1) == profile.labels).mean(axis=1)
        chosen = sorted(known, key=lambda one: -right[one])[:size]
    elif method == "greedy":
        chosen = []
        while len(chosen) < size:
            chosen = [
                *chosen,
                min((one for one in known if one not in chosen), key=lambda o: loss([*chosen, o])),
            ]
    else:
        chosen = min(
            combinations(known, size),
            key=lambda members: loss(members) - diversity * _mean_disagreement(pairs, members),
        )
    cost = profile.gate_macs.sum(axis=1)
    chosen = sorted(chosen, key=lambda one: (int(cost[one]), one))
    return Pick(tuple(profile.names[one] for one in chosen), loss(chosen), _mean_disagreement(pairs, chosen))


def write_ensembles(path: Path, profile: PoolProfile, sizes: Sequence[int], among: Sequence[str]) -> None:
    """QUEST's picks of several sizes as a JSON file that `ensemble` reads, whole or not at all.

    DataError if it cannot be written.
    """
    found = {str(size): pick(profile, size, among=among)._asdict() for size in sizes}
    text = json.dumps({"lambda": _LAMBDA, "ensembles": found}, indent=2) + "\n"
    with whole_file(path, "ensembles") as partial:
        partial.write_text(text, encoding="utf-8")


def ensemble(pool: str | Path, size: int) -> tuple[str, ...]:
    """Names of QUEST's pick of `size` learners of a shipped pool, or of a file of `write_ensembles`.

    UsageError for a size that was not picked, DataError for a file that is missing or broken.
    """
    path = Path(pool) if Path(pool).suffix == ".json" else LEARNERS / f"{pool}.ensemble.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["ensembles"]
    except OSError as error:
        raise DataError(f"cannot read the ensembles of {pool}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not hold ensembles") from error
    if str(size) not in found:
        raise UsageError(
            f"no ensemble of {size} was picked from {pool}; there are: {', '.join(sorted(found))}"
        )
    return tuple(found[str(size)]["learners"])
