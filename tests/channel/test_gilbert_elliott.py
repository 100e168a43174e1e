import numpy as np
import pytest

from splitpoint.channel.config import GilbertElliottConfig, build_link
from splitpoint.channel.gilbert_elliott import GilbertElliottPath
from splitpoint.channel.path import CHUNK

PATH = {"mean_good_s": 0.4, "mean_bad_s": 0.1, "good": (15.0, 0.01), "bad": (5.0, 0.5), "slot_s": 0.01}


def states(chunks, device=0, **changes):
    path = GilbertElliottPath(**{**PATH, **changes}, seed=3, device=device)
    return np.concatenate([path.bad(chunk) for chunk in range(chunks)])


def test_stationary_share_of_bad_time():
    # 400 chunks of 2.56 s: about 2 000 cycles, standard error 0.006.
    assert states(400).mean() == pytest.approx(0.2, abs=0.02)


def test_mean_lengths_of_bursts():
    bad = states(400)
    edges = np.flatnonzero(np.diff(bad)) + 1
    lengths = np.diff(edges) * 0.01
    is_bad = bad[edges[:-1]]
    assert lengths[is_bad].mean() == pytest.approx(0.1, rel=0.08)
    assert lengths[~is_bad].mean() == pytest.approx(0.4, rel=0.08)
    # Geometric: the deviation of bursts of mean 10 slots is sqrt(1 - 1/10) of the mean.
    assert lengths[is_bad].std() == pytest.approx(0.1 * np.sqrt(0.9), rel=0.12)


def test_the_first_slot_is_stationary_already():
    first = [states(1, device)[0] for device in range(2000)]
    assert np.mean(first) == pytest.approx(0.2, abs=0.035)


@pytest.mark.parametrize("means", [(0.4, 0.1), (30.0, 20.0), (0.02, 0.02)])
def test_any_chunk_can_be_asked_first(means):
    changes = {"mean_good_s": means[0], "mean_bad_s": means[1]}
    whole = states(12, **changes)
    for chunk in (11, 5, 0):
        fresh = GilbertElliottPath(**{**PATH, **changes}, seed=3, device=0)
        assert (fresh.bad(chunk) == whole[chunk * CHUNK : (chunk + 1) * CHUNK]).all()


def test_the_state_sets_snr_and_loss():
    config = GilbertElliottConfig(
        mean_snr_db=15.0, bad_drop_db=10.0, loss=0.01, bad_loss=0.5, mean_good_s=0.4, slot_s=0.01
    )
    link = build_link(config, 3, 0)
    bad = states(4)
    for slot in range(0, 4 * CHUNK, 7):
        state = link.state((slot + 0.5) * 0.01)
        assert (state.snr_db, state.loss) == ((5.0, 0.5) if bad[slot] else (15.0, 0.01))


def test_retransmissions_follow_the_state():
    config = GilbertElliottConfig(mean_snr_db=15.0, loss=0.0, bad_loss=0.8, mean_good_s=2.0, mean_bad_s=2.0)
    link = build_link(config, 1, 0)
    times = {True: [], False: []}
    for k in range(1000):
        t = 0.05 * k
        # A packet takes 0.003 s: the state mostly lasts through the transfer.
        times[link.state(t).loss > 0].append(link.transfer_time(1400, t, k))
    lossless = 8 * 1440 / link.state(0.0).rate_bps
    assert np.mean(times[False]) == pytest.approx(lossless, rel=0.02)
    assert np.mean(times[True]) == pytest.approx(lossless / 0.2, rel=0.25)


def test_long_transfers_see_the_mean_loss():
    config = GilbertElliottConfig(mean_snr_db=15.0, loss=0.0, bad_loss=0.5, mean_good_s=0.1, mean_bad_s=0.1)
    link = build_link(config, 1, 0)
    count, bits = 500, 8 * 1440
    extra = np.mean([link.packets(1400 * count, 10.0 * k, k)[0] - count for k in range(40)])
    assert extra / count == pytest.approx(0.25 / 0.75, rel=0.08)
    assert link.packets(1400 * count, 0.0, 0)[1] == bits
