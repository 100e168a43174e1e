"""The pool that ships: its files fit together, and its learners can do what their cards say."""

from pathlib import Path

import numpy as np
import pytest

from splitpoint.models.learner import load_learner
from splitpoint.models.learner_file import learner_names, read_learner_card, resolve_learner
from splitpoint.models.pool_config import pool_configs
from splitpoint.models.pool_profile import PoolProfile, pool_path
from splitpoint.models.quest import ensemble, pick
from splitpoint.models.store import built_in_models

NAMES = [config.name for config in pool_configs("cifar10")]


def test_every_learner_of_the_pool_ships_and_they_are_small() -> None:
    assert set(learner_names()) == {*NAMES, *built_in_models()}
    assert sum(resolve_learner(name).stat().st_size for name in NAMES) < 10_000_000
    for config in pool_configs("cifar10"):
        card = read_learner_card(resolve_learner(config.name))
        assert card.model_copy(update={"id": "", "training": {}}) == config.card
        training = card.training
        assert str(training["command"]).startswith("splitpoint train-pool cifar10 --seed 0")
        assert isinstance(training["config"], dict)
        assert training["config"]["seed"] == config.seed
        assert np.shape(training["evaluation_accuracy"]) == (3,)


@pytest.mark.parametrize("split", ["calibration", "evaluation"])
def test_profiles_are_of_these_learners_and_agree_with_their_cards(split: str) -> None:
    profile = PoolProfile.load(pool_path("cifar10", split))
    profile.require(split)
    assert profile.names == (*NAMES, "cifar10")
    assert profile.probabilities.shape == (9, 1000, 3, 10)
    sums = profile.probabilities.astype(np.float32).sum(axis=-1)
    np.testing.assert_allclose(sums, 1.0, atol=5e-3)
    for place, name in enumerate(profile.names):
        learner = load_learner(name)
        assert profile.ids[place] == learner.id
        assert tuple(profile.gate_macs[place]) == learner.gate_macs
        right = (profile.probabilities[place].argmax(axis=-1) == profile.labels[:, None]).mean(axis=0)
        # A thousand samples of a split: within four standard errors.
        np.testing.assert_allclose(right, learner.card.training["evaluation_accuracy"], atol=0.06)


def test_a_folder_where_one_works_hides_no_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar10").mkdir()  # of the data, say
    monkeypatch.chdir(tmp_path)
    assert len(PoolProfile.load(pool_path("cifar10", "calibration"))) == 1000


@pytest.mark.parametrize("size", [3, 5])
def test_the_shipped_ensembles_name_learners_in_rising_cost(size: int) -> None:
    names = ensemble("cifar10", size)
    assert len(set(names)) == size
    assert set(names) <= set(NAMES)
    cost = [sum(load_learner(name).gate_macs) for name in names]
    assert cost == sorted(cost)
    # The pick was made on the whole split; on the part of it that ships it is still better than most.
    profile = PoolProfile.load(pool_path("cifar10", "calibration"))
    shipped = pick(profile, size, among=names).loss
    others = [pick(profile, size, "random", among=NAMES, seed=seed).loss for seed in range(40)]
    assert np.mean([shipped <= other + 1e-9 for other in others]) > 0.5


def test_opinions_of_a_shipped_learner_do_not_hang_on_batch_mates() -> None:
    learner = load_learner(NAMES[0])
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    together = learner.opinions(images).astype(np.float32)
    for place in range(3):
        alone = learner.opinions(images[place : place + 1])[0].astype(np.float32)
        np.testing.assert_allclose(alone, together[place], atol=2e-3)
