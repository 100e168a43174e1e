import numpy as np
import pytest
import torch

from splitpoint.models.recursion import margin, prediction, running_logits
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator
from splitpoint.server.work import Sample


def answers(tail, samples):
    found = {}
    for progress in tail.run(samples):
        assert progress.samples == len(samples) - len(found)
        for place, answer in progress.answers:
            assert place not in found
            found[place] = answer
    assert sorted(found) == list(range(len(samples)))
    return found


def samples(small, count, cut, margin):
    validator = Validator(small.card, small.codec)
    return [validator.check(small.request(i + 1, cut=cut, margin=margin)).sample for i in range(count)]


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("exit_margin", [0.15, 2.0])
def test_a_batch_gives_what_each_sample_gives_alone(small, cut, exit_margin):
    tail = TorchTail(small.network, small.card)
    together = answers(tail, samples(small, 12, cut, exit_margin))
    for place, sample in enumerate(samples(small, 12, cut, exit_margin)):
        alone = answers(tail, [sample])[0]
        assert together[place].prediction == alone.prediction
        assert together[place].exit == alone.exit
        assert together[place].margin == pytest.approx(alone.margin, abs=1e-5)


def test_samples_leave_at_the_first_exit_whose_margin_is_enough(small):
    batch = samples(small, 24, 1, 0.15)
    found = answers(TorchTail(small.network, small.card), batch)
    exits = {answer.exit for answer in found.values()}
    assert exits == {1, 2}
    for answer in found.values():
        assert answer.exit == 2 or answer.margin >= 0.15


def test_exits_go_on_from_the_requests_state(small):
    [sample] = samples(small, 1, 2, 2.0)
    found = answers(TorchTail(small.network, small.card), [sample])[0]
    with torch.inference_mode():
        x, _ = small.network.run(torch.from_numpy(sample.values)[None], 2, 4)
        q, _ = small.network.exit(x, 2, torch.from_numpy(sample.u)[None])
    expected = running_logits(sample.logits[None], q.numpy())
    assert found.prediction == prediction(expected)[0]
    assert found.margin == pytest.approx(float(margin(expected)[0]), abs=1e-6)
    assert found.exit == 2


def test_requests_with_and_without_a_state_share_a_batch(small):
    validator = Validator(small.card, small.codec)
    batch = [validator.check(small.request(i, cut=2, state=i % 2 == 0)).sample for i in range(1, 7)]
    tail = TorchTail(small.network, small.card)
    together = answers(tail, batch)
    for place, sample in enumerate(batch):
        assert together[place].margin == pytest.approx(answers(tail, [sample])[0].margin, abs=1e-5)


@pytest.mark.parametrize("exit_margin", [0.15, 2.0])
def test_requests_with_and_without_a_rest_token_share_a_batch(small, exit_margin):
    batch = samples(small, 24, 1, exit_margin)
    for sample in batch[::2]:
        sample.rest = 5
    tail = TorchTail(small.network, small.card)
    together = answers(tail, batch)
    assert len({answer.exit for answer in together.values()}) == (2 if exit_margin < 1 else 1)
    for place, sample in enumerate(batch):
        alone = answers(tail, [sample])[0]
        assert together[place].exit == alone.exit
        assert together[place].margin == pytest.approx(alone.margin, abs=1e-5)
    unweighted = answers(tail, samples(small, 1, 1, exit_margin))[0]
    assert together[0].margin != pytest.approx(unweighted.margin, abs=1e-4)


def test_an_image_goes_through_the_whole_network(small):
    image = np.random.default_rng(3).integers(0, 256, (16, 16, 1), dtype=np.uint8)
    found = answers(TorchTail(small.network, small.card), [Sample(0, image, 2.0)])[0]
    pixels = torch.from_numpy(((image.transpose(2, 0, 1)[None] / 255.0 - 0.5) / 0.25).astype(np.float32))
    with torch.inference_mode():
        logits = None
        for q in small.network(pixels):
            logits = running_logits(logits, q.numpy())
    assert found.prediction == prediction(logits)[0]
    assert found.margin == pytest.approx(float(margin(logits)[0]), abs=1e-5)


def test_absurd_but_finite_tokens_still_get_a_finite_margin(small):
    values = np.full((17, 24), 3e38, np.float32)
    values[1::2] *= -1
    for answer in answers(TorchTail(small.network, small.card), [Sample(2, values, 0.5)]).values():
        assert 0.0 <= answer.margin <= 1.0
