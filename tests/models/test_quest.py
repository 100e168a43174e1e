"""QUEST's pick where it can be told by hand, and its rivals."""

import errno
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.errors import DataError, UsageError
from splitpoint.models.pool_profile import PoolProfile
from splitpoint.models.quest import disagreement, ensemble, joint_loss, pick, write_ensembles

SAMPLES, CLASSES = 60, 3


def _said(right: np.ndarray, labels: np.ndarray, sure: float = 0.8) -> np.ndarray:
    """One learner's probabilities (S, 2, C): `sure` for the label where it is right, for the class after it else."""
    said = np.full((len(labels), CLASSES), (1 - sure) / (CLASSES - 1))
    said[np.arange(len(labels)), np.where(right, labels, (labels + 1) % CLASSES)] = sure
    return np.stack([said, said], axis=1)


def _profile(rights: list[np.ndarray], split: str = "calibration") -> PoolProfile:
    labels = np.arange(SAMPLES) % CLASSES
    said = np.stack([_said(right, labels) for right in rights]).astype(np.float16)
    count = len(rights)
    return PoolProfile(
        names=tuple("abcdefgh"[:count]),
        ids=tuple("0" * count),
        split=split,  # type: ignore[arg-type]
        labels=labels,
        probabilities=said,
        gate_macs=np.arange(2 * count, 0, -1).reshape(count, 2),
        gate_s=np.ones((count, 2)),
    )


def _errs(*parts: int) -> np.ndarray:
    """Right everywhere but in the given sixths of the samples."""
    place = np.arange(SAMPLES) * 6 // SAMPLES
    return ~np.isin(place, parts)


# a, b and c are each the best and err together; d, e and f err a little more, each elsewhere.
TWINS = [_errs(0), _errs(0), _errs(0), _errs(1, 2), _errs(3, 4), _errs(0, 5)]


def test_quest_takes_those_that_err_apart_and_accuracy_takes_the_twins() -> None:
    profile = _profile(TWINS)
    assert set(pick(profile, 3, "accuracy").learners) == {"a", "b", "c"}
    found = pick(profile, 3)
    assert len({"a", "b", "c"} & set(found.learners)) <= 1  # twins add nothing to each other
    assert {"d", "e"} < set(found.learners)
    # In rising cost: later learners are cheaper here.
    assert list(found.learners) == sorted(found.learners, reverse=True)
    assert found.disagreement > pick(profile, 3, "accuracy").disagreement == 0


def test_without_diversity_quest_is_the_least_joint_loss_of_all() -> None:
    profile = _profile(TWINS)
    least = min(
        joint_loss(profile.probabilities[list(members)], profile.labels)
        for members in combinations(range(6), 3)
    )
    assert pick(profile, 3, diversity=0.0).loss == pytest.approx(least)
    assert pick(profile, 3, "greedy").loss >= pick(profile, 3, diversity=0.0).loss - 1e-9


def test_much_weight_on_diversity_takes_the_most_different() -> None:
    # f is wrong always, and so differs from all; whoever cares for nothing else takes it.
    profile = _profile([_errs(), _errs(), _errs(0), _errs(*range(6))])
    assert "d" in pick(profile, 2, diversity=100.0).learners
    assert "d" not in pick(profile, 2, diversity=0.0).learners


def test_random_picks_follow_the_seed_and_stay_among_the_named() -> None:
    profile = _profile(TWINS)
    one = [pick(profile, 3, "random", seed=seed) for seed in range(20)]
    assert one == [pick(profile, 3, "random", seed=seed) for seed in range(20)]
    assert len({found.learners for found in one}) > 5
    for method in ("quest", "random", "accuracy", "greedy"):
        assert set(pick(profile, 2, method, among=("b", "e", "f")).learners) < {"b", "e", "f"}
    with pytest.raises(UsageError, match="an ensemble of 4 cannot be picked from 3"):
        pick(profile, 4, among=("b", "e", "f"))
    with pytest.raises(UsageError, match="unknown learner 'x'"):
        pick(profile, 1, among=("x",))


def test_the_evaluation_split_is_never_picked_on() -> None:
    with pytest.raises(UsageError, match="evaluation profile"):
        pick(_profile(TWINS, "evaluation"), 3)


@given(st.integers(0, 2**32 - 1))
def test_disagreement_is_symmetric_and_zero_with_oneself(seed: int) -> None:
    said = np.random.default_rng(seed).dirichlet(np.ones(4), (3, 7, 2))
    pairs = disagreement(said)
    np.testing.assert_array_equal(pairs, pairs.T)
    assert not np.diag(pairs).any()
    assert ((pairs >= 0) & (pairs <= 1)).all()


def test_the_loss_of_one_learner_is_its_cross_entropy() -> None:
    labels = np.array([0, 1])
    said = np.array([[[[0.5, 0.5]], [[0.75, 0.25]]]])
    assert joint_loss(said, labels) == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_ensembles_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, profile = tmp_path / "pool.ensemble.json", _profile(TWINS)
    write_ensembles(path, profile, (2, 3), profile.names)
    assert ensemble(path, 3) == pick(profile, 3).learners
    assert ensemble(path, 2) == pick(profile, 2).learners
    with pytest.raises(UsageError, match="there are: 2, 3"):
        ensemble(path, 5)
    monkeypatch.setattr("os.replace", _full_disk)
    with pytest.raises(DataError, match="cannot write the ensembles"):
        write_ensembles(path, profile, (2,), profile.names)
    assert ensemble(path, 3) == pick(profile, 3).learners
    path.write_text("{}")
    with pytest.raises(DataError, match="does not hold"):
        ensemble(path, 3)
