"""Choosing when to refine: on calibration data only, within the bytes, and as the samples then behave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splitpoint.codec.refinement import ASK_BYTES, REFINABLE_BYTES, refinement_bytes
from splitpoint.errors import UsageError
from splitpoint.models.grid import Grid
from splitpoint.models.profile import Profile, Refined
from splitpoint.models.refinement import Exchange, RefinementRule, best_refinement, exchange, refined_exchange

from .conftest import tiny_card

SAMPLES, TOKENS, DIMS = 400, 9, 16
CUT, KEEP, FURTHER = 1, 0.5, 90
WIDTHS = (8, 4, 2)


def made_up(split: str = "calibration", seed: int = 0) -> Profile:
    """A profile in which narrow codes are wrong where their margin is low, and 8 bits are always right."""
    card, random = tiny_card(), np.random.default_rng(seed)
    labels = random.integers(0, 4, SAMPLES)
    exits = len(card.exits)
    margin = random.uniform(size=(len(WIDTHS), SAMPLES, 1)).repeat(exits, axis=2).astype(np.float32)
    wrong = (random.uniform(size=margin.shape[:2]) < 0.8 * (1 - margin[:, :, 0]) ** 3)[:, :, None]
    wrong[0] = False
    predictions = np.where(wrong, (labels[:, None] + 1) % 4, labels[:, None]).repeat(exits, axis=2)
    packed = np.array([[200 + 18 * bits] * SAMPLES for bits in WIDTHS])
    return Profile(
        card=card,
        split_name=split,
        coder="packed",
        grid=Grid((1,), (KEEP,), (DIMS,), WIDTHS, refine_keeps=(1.0,)),
        labels=labels,
        images_id="0" * 16,
        head_prediction=predictions[0].astype(np.uint16),
        head_margin=margin[0],
        tail_prediction=predictions.astype(np.uint16),
        tail_margin=margin,
        request_bytes=packed.astype(np.int32),
        tokens=np.full((len(WIDTHS), SAMPLES), TOKENS, np.int32),
        reply_bytes=44,
        block_time_s=np.zeros(card.depth + 1),
        exit_time_s=np.zeros(exits),
        refined=Refined(
            predictions[:1].repeat(len(WIDTHS), axis=0).astype(np.uint16),
            np.ones_like(margin),
            np.full((len(WIDTHS), SAMPLES), FURTHER, np.int32),
            np.full((len(WIDTHS), SAMPLES), 2 * TOKENS, np.int32),
        ),
    )


def planes(bits: int, refine_bits: int, margin: float) -> RefinementRule:
    return RefinementRule(KEEP, bits, 0.0, refine_bits, margin)


def fixed(profile: Profile, bits: int) -> Exchange:
    return exchange(profile, CUT, KEEP, DIMS, bits)


def test_refined_samples_answer_as_the_wider_code_and_pay_for_both() -> None:
    profile = made_up()
    narrow, wide = fixed(profile, 2), fixed(profile, 8)
    both = refined_exchange(profile, CUT, DIMS, planes(2, 8, 0.3))
    asked = profile.tail_margin[2, :, -1] < 0.3
    np.testing.assert_array_equal(both.refined, asked)
    np.testing.assert_array_equal(both.correct, np.where(asked, wide.correct, narrow.correct))
    further = refinement_bytes(TOKENS, DIMS, 6) + ASK_BYTES + profile.reply_bytes
    np.testing.assert_array_equal(both.nbytes - narrow.nbytes, REFINABLE_BYTES + asked * further)


def test_samples_with_further_tokens_answer_as_was_measured_and_pay_for_both() -> None:
    profile = made_up()
    assert profile.refined is not None
    both = refined_exchange(profile, CUT, DIMS, RefinementRule(KEEP, 2, 1.0, 0, 0.3))
    asked = profile.tail_margin[2, :, -1] < 0.3
    right = profile.refined.prediction[2, :, -1] == profile.labels
    np.testing.assert_array_equal(both.correct, np.where(asked, right, fixed(profile, 2).correct))
    further = FURTHER + ASK_BYTES + profile.reply_bytes
    np.testing.assert_array_equal(both.nbytes - fixed(profile, 2).nbytes, REFINABLE_BYTES + asked * further)


def test_the_rule_keeps_to_the_bytes_and_beats_the_width_that_costs_them() -> None:
    profile = made_up()
    for bits in (2, 4, 8):
        most_bytes = fixed(profile, bits).nbytes.mean() + 10
        rule = best_refinement(profile, CUT, DIMS, most_bytes)
        assert rule is not None
        found = refined_exchange(profile, CUT, DIMS, rule)
        assert found.nbytes.mean() <= most_bytes
        if bits == 4:
            assert found.correct.mean() > fixed(profile, bits).correct.mean()


@pytest.mark.parametrize("steps", [0, 2, 3])
@pytest.mark.parametrize("tokens", [False, True])
def test_no_other_rule_is_right_more_often_within_the_bytes(steps: int, tokens: bool) -> None:
    """With margins of a few values too, of which no threshold refines only a part."""
    profile, most_bytes = made_up(seed=3), 340.0
    if steps:
        profile = replace(profile, tail_margin=np.floor(profile.tail_margin * steps) / np.float32(steps))
    if not tokens:
        profile = replace(profile, refined=None, grid=replace(profile.grid, refine_keeps=()))
    best = best_refinement(profile, CUT, DIMS, most_bytes)
    assert best is not None
    # Further tokens cost little here, and make all right; coarse margins may leave no room for them.
    assert bool(best.refine_keep) == (tokens and steps != 2)
    wanted = refined_exchange(profile, CUT, DIMS, best).correct.mean()
    for bits, refine_bits in ((2, 4), (2, 8), (4, 8)):
        for margin in np.linspace(0.0, 1.1, 60):
            other = refined_exchange(profile, CUT, DIMS, planes(bits, refine_bits, float(margin)))
            assert other.nbytes.mean() > most_bytes or other.correct.mean() <= wanted


def test_too_few_bytes_give_no_rule_and_evaluation_data_chooses_none() -> None:
    assert best_refinement(made_up(), CUT, DIMS, 100.0) is None
    with pytest.raises(UsageError, match="evaluation profile"):
        best_refinement(made_up("evaluation"), CUT, DIMS, 300.0)
    with pytest.raises(UsageError, match="plane"):
        refined_exchange(replace(made_up(), coder="ans"), CUT, DIMS, planes(2, 4, 0.5))
