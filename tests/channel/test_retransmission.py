import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom

from splitpoint.channel.retransmission import lost_packets


@given(packets=st.integers(1, 60), loss=st.floats(0.001, 0.4), uniform=st.floats(0, 0.999999))
def test_small_numbers_are_the_exact_quantile(packets, loss, uniform):
    lost = lost_packets(packets, loss, uniform)
    distribution = nbinom(packets, 1 - loss)
    assert distribution.cdf(lost) >= uniform - 1e-9
    assert lost == 0 or distribution.cdf(lost - 1) <= uniform + 1e-9


@given(packets=st.integers(500, 20_000), loss=st.floats(0.1, 0.9), uniform=st.floats(0.001, 0.999))
def test_large_numbers_are_within_one_packet_of_the_quantile(packets, loss, uniform):
    assert lost_packets(packets, loss, uniform) == pytest.approx(
        nbinom(packets, 1 - loss).ppf(uniform), abs=1.01
    )


def test_no_loss_loses_nothing():
    assert lost_packets(1000, 0.0, 0.9999) == 0


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("loss", [1e-6, 0.5, 0.9])
def test_the_edges_of_the_draw_are_finite(uniform, loss):
    assert 0 <= lost_packets(30, loss, uniform) < 2000
    assert 0 <= lost_packets(3000, loss, uniform) < 60_000


def test_the_mean_is_that_of_the_distribution():
    uniform = (np.arange(4000) + 0.5) / 4000
    assert np.mean([lost_packets(8, 0.3, u) for u in uniform]) == pytest.approx(8 * 0.3 / 0.7, rel=0.01)
