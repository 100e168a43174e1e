"""From the head's state to the request on the wire."""

from __future__ import annotations

import numpy as np
import pytest

from splitpoint.codec.halves import read_halves, round_to_wire
from splitpoint.codec.image import decode_image, encode_image
from splitpoint.codec.requests import payload_crc, read_exit_state
from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.encoder import Encoder
from splitpoint.device.head import advanced
from splitpoint.device.load import load_head
from splitpoint.errors import DataError, UsageError
from splitpoint.policies.decision import Decision

from .conftest import Small


@pytest.fixture(scope="module")
def codec(small: Small) -> TokenCodec:
    return TokenCodec({}, dim=small.card.dim, max_tokens=small.card.patch_tokens + 1)


@pytest.fixture(scope="module")
def encoder(small: Small, codec: TokenCodec) -> Encoder:
    return Encoder(small.card, codec)


def test_the_raw_input_goes_losslessly(encoder: Encoder, small: Small) -> None:
    image = small.image(0)
    request, kept = encoder.request(image, None, Decision(0), request_id=7, deadline_s=0.25)
    np.testing.assert_array_equal(decode_image(request.image, image.shape), image)
    assert (request.split, request.request_id, request.model_id) == (0, 7, small.card.id)
    assert request.deadline_s == pytest.approx(0.25)
    assert not request.HasField("exit_state")
    np.testing.assert_array_equal(kept, np.arange(small.card.patch_tokens))


def test_the_raw_input_goes_lossily_where_that_is_chosen(codec: TokenCodec, small: Small) -> None:
    image = small.image(0)
    coarse = Encoder(small.card, codec, image_format="jpeg:20")
    request, _ = coarse.request(image, None, Decision(0), request_id=7, deadline_s=0.25)
    assert request.image == encode_image(image, "jpeg", 20)
    with pytest.raises(DataError, match="quality of 0 to 100, not 'jpeg'"):
        Encoder(small.card, codec, image_format="jpeg")


def test_tokens_and_exit_state_are_those_of_the_cut(
    encoder: Encoder, codec: TokenCodec, small: Small
) -> None:
    card, image = small.card, small.image(0)
    state = advanced(load_head(small.folder), image, None, 3)
    decision = Decision(3, keep=0.25, bits=8, exit_margin=0.5)
    request, kept = encoder.request(image, state, decision, request_id=1, deadline_s=0.25)
    assert (request.split, request.tokens.count, request.exit_margin) == (3, 5, 0.5)
    assert request.payload_crc == payload_crc(request)
    np.testing.assert_array_equal(kept, np.sort(np.argsort(-state.scores, kind="stable")[:4]))
    decoded = codec.decode(request.tokens, 3)
    sent = state.tokens[[0, *(kept + 1)]]
    # So few dims share one range.
    assert np.abs(decoded - sent).max() <= (sent.max() - sent.min()) / 256
    reading = read_exit_state(request.exit_state, card.exit_state_dim, card.class_count, len(card.exits))
    np.testing.assert_array_equal(reading.u, round_to_wire(state.u))
    np.testing.assert_array_equal(reading.logits, round_to_wire(state.logits))
    assert (reading.passed, reading.margin) == (2, pytest.approx(state.margin))


def test_before_the_first_exit_there_is_no_exit_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    from .conftest import make_small

    late = make_small(tmp_path_factory.mktemp("late"), 2, exits=(3, 4))
    encoder = Encoder(late.card, TokenCodec({}, dim=late.card.dim))
    state = advanced(load_head(late.folder), late.image(0), None, 2)
    request, _ = encoder.request(late.image(0), state, Decision(2), request_id=1, deadline_s=0.25)
    assert not request.HasField("exit_state")


def test_a_merged_request_has_the_mean_exit_state_of_each_group_and_the_lowest_margin(
    encoder: Encoder, small: Small
) -> None:
    card, head = small.card, load_head(small.folder)
    states = [advanced(head, small.image(seed), None, 3) for seed in range(8)]
    decision = Decision(3, keep=0.25, dims=12, bits=6, exit_margin=0.5, merge=0.4)
    request, groups = encoder.merged_request(states, decision, request_id=7, deadline_s=0.25)
    assert (request.split, request.request_id, request.exit_margin) == (3, 7, 0.5)
    # As many tokens as each would send alone.
    assert (request.tokens.count, request.tokens.dims, request.tokens.bits) == (card.kept(0.25) + 1, 12, 6)
    assert list(request.tokens.groups.assignment) == groups.tolist()
    assert set(groups.tolist()) == {0, 1, 2}
    state = read_halves("state", request.exit_state.state, (3, card.exit_state_dim))
    logits = read_halves("logits", request.exit_state.logits, (3, card.class_count))
    for group in range(3):
        members = [states[place] for place in np.flatnonzero(groups == group)]
        np.testing.assert_allclose(
            state[group], np.mean([m.u for m in members], axis=0), rtol=2e-3, atol=1e-6
        )
        np.testing.assert_allclose(
            logits[group], np.mean([m.logits for m in members], axis=0), rtol=2e-3, atol=1e-6
        )
    assert request.exit_state.margin == pytest.approx(min(state.margin for state in states))
    assert max(state.margin for state in states) > request.exit_state.margin
    others = [encoder.merged_request(states, decision, request_id=key, deadline_s=1.0)[1] for key in range(9)]
    assert (others[7] == groups).all()
    assert len({tuple(other.tolist()) for other in others}) > 1


def test_a_whole_input_goes_from_every_cut_with_the_exit_state_and_cannot_be_refined(
    codec: TokenCodec, small: Small
) -> None:
    image = small.image(0)
    state = advanced(load_head(small.folder), image, None, 3)
    decision = Decision(3, bits=2, refine_bits=4, refine_margin=0.5)
    request, kept = Encoder(small.card, codec, whole_input=True).request(
        image, state, decision, request_id=1, deadline_s=0.25
    )
    assert (request.split, request.refine, request.HasField("refine_margin")) == (0, False, False)
    np.testing.assert_array_equal(decode_image(request.image, image.shape), image)
    assert request.exit_state.exits_passed == state.passed == 2
    assert len(kept) == small.card.patch_tokens


def test_size_depends_on_the_decision_only(encoder: Encoder, small: Small) -> None:
    head, decision = load_head(small.folder), Decision(2, keep=0.5, dims=8, bits=3)
    sizes = set()
    for seed, deadline_s in enumerate((1e-3, 0.1, 7.0)):
        state = advanced(head, small.image(seed), None, 2)
        request, _ = encoder.request(
            small.image(seed), state, decision, request_id=10**seed, deadline_s=deadline_s
        )
        sizes.add(request.ByteSize())
    assert len(sizes) == 1


def test_a_coder_that_is_not_to_be_had_is_refused(small: Small, codec: TokenCodec) -> None:
    with pytest.raises(UsageError, match="unknown coder 'zip'"):
        Encoder(small.card, codec, "zip")
    with pytest.raises(UsageError, match="tables"):
        Encoder(small.card, codec, "ans")
