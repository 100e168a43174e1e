"""Rest tokens in networks: exact where what was left out is alike, and the codec's selection in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitpoint.codec.selection import sent_tokens
from splitpoint.models.rest import rest_keys, select_with_rest

from .conftest import tiny_network


@torch.no_grad()
def test_a_rest_token_stands_exactly_for_equal_patches() -> None:
    network = tiny_network()
    few = torch.randn(3, 6, 16)
    whole = torch.cat([few[:, :1], few[:, 1:2].expand(-1, 20, -1), few[:, 2:]], dim=1)
    expected, _ = network.run(whole, 1, 4)
    keys = rest_keys([20, 20, 20], 6)
    found, _ = network.run(few, 1, 4, keys)
    torch.testing.assert_close(found[:, 0], expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 2:], expected[:, 21:], atol=1e-5, rtol=1e-5)
    unweighted, _ = network.run(few, 1, 4)
    assert (unweighted[:, 0] - expected[:, 0]).abs().max() > 1e-3


def test_samples_without_a_rest_token_count_each_token_once() -> None:
    assert rest_keys([0, 0], 5) is None
    keys = rest_keys([0, 3, 1], 4)
    assert keys is not None
    assert keys.tolist() == [[1, 1, 1, 1], [1, 3, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.96, 1.0])
def test_torch_selects_as_the_codec_does(keep: float) -> None:
    tokens, scores = torch.randn(4, 25, 16), torch.rand(4, 24)
    x, keys = select_with_rest(tokens, scores, keep)
    for row in range(4):
        sent, kept, _ = sent_tokens(tokens[row].numpy(), scores[row].numpy(), keep, rest=True)
        np.testing.assert_allclose(x[row].numpy(), sent, atol=1e-5)
        if keep < 1.0:
            assert keys is not None
            assert keys[row].tolist() == [1, 24 - kept.size, *[1] * kept.size]
    assert (keys is None) == (keep == 1.0)
