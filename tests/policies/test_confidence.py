"""How likely an answer is right: the isotonic fit against scikit-learn's, and over a Profile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from splitpoint.errors import UsageError
from splitpoint.policies.confidence import fit_confidence, isotonic_fit
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

SETUP = Setup(load_scenario("quickstart"))


@settings(max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(0, 2**31))
def test_it_is_the_rising_step_function_nearest_to_the_shares(answers: list[bool], seed: int) -> None:
    right = np.array(answers)
    margins = np.random.default_rng(seed).random(len(right))
    parts = np.array_split(np.argsort(margins), min(64, len(right)))
    centres = np.array([margins[part].mean() for part in parts])
    shares, weights = [right[part].mean() for part in parts], [len(part) for part in parts]
    expected = IsotonicRegression().fit_transform(centres, shares, sample_weight=weights)
    np.testing.assert_allclose(isotonic_fit(margins, right)(centres), expected, atol=1e-9)


def test_it_is_flat_beyond_the_margins_that_were_seen() -> None:
    found = isotonic_fit(np.array([0.4, 0.6]), np.array([False, True]))
    assert found(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_answers_on_both_sides_are_right_as_often_as_they_seem() -> None:
    profile = SETUP.calibration
    confidence = fit_confidence(profile)
    sides = (
        (profile.head_margin, profile.head_prediction == profile.labels[:, None]),
        (profile.tail_margin, profile.tail_prediction == profile.labels[None, :, None]),
    )
    assert all(right.shape == margin.shape for margin, right in sides)
    seemed = [confidence(margin).sum() for margin, _ in sides]
    assert sum(seemed) == pytest.approx(sum(right.sum() for _, right in sides), rel=2e-3)
    # So too where they are sure, and where they are not.
    for sure, within in ((True, 0.005), (False, 0.1)):
        chosen = [(margin >= 0.9) == sure for margin, _ in sides]
        promised = sum(confidence(m[c]).sum() for (m, _), c in zip(sides, chosen, strict=True))
        kept = sum(right[c].sum() for (_, right), c in zip(sides, chosen, strict=True))
        assert promised == pytest.approx(kept, rel=within)


def test_it_is_never_fitted_to_the_evaluation_profile() -> None:
    with pytest.raises(UsageError, match="evaluation profile"):
        fit_confidence(SETUP.evaluation)
