import numpy as np
import pytest

from splitpoint.channel.config import AwgnConfig, RayleighConfig, RicianConfig, build_link, build_links
from splitpoint.channel.path import CHUNK, Samples
from splitpoint.channel.rate import FixedRate
from splitpoint.channel.slots import JointSlots, OwnSlots


class Counted:
    """A joint path that counts the rows that it draws."""

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self.rows = 0

    def draw(self, chunk: int, rows: slice) -> Samples:
        places = np.arange(self._devices)[rows]
        self.rows += len(places)
        return Samples(np.repeat(100.0 * chunk + places[:, None], CHUNK, axis=1))


def joint(devices: int) -> tuple[Counted, JointSlots]:
    path = Counted(devices)
    return path, JointSlots(path, FixedRate(1e6, 1e6), 0.01, devices)


@pytest.mark.parametrize("kind", [RayleighConfig, RicianConfig])
def test_what_is_drawn_together_is_what_each_draws_alone(kind):
    config = kind(doppler_hz=3.0, shadowing_db=4.0, bandwidth_hz=1e4)
    together = build_links([config] * 37, 5)
    # Forwards and backwards, over the ends of chunks and of groups, far ahead of the others too.
    moments = [0.0, 2.5, 2.559, 7.0, 30.0, 5.2, 90.0, 90.01]
    for device in (0, 1, 31, 32, 36):
        alone = build_link(config, 5, device)
        for t in moments:
            assert together[device].snr_db(t) == alone.snr_db(t)
            assert together[device].transfer_time(90_000, t, 2) == alone.transfer_time(90_000, t, 2)
        samples, bits = together[device].slots(3)
        assert samples.snr_db.tolist() == alone.slots(3)[0].snr_db.tolist()
        assert bits.tolist() == alone.slots(3)[1].tolist()


def test_links_of_other_configurations_stay_apart():
    fading, still = RayleighConfig(doppler_hz=2.0), AwgnConfig(shadowing_db=3.0)
    links = build_links([fading, fading, still, fading], 1)
    assert [link.device for link in links] == [0, 1, 2, 3]
    for link, config in zip(links, (fading, fading, still, fading), strict=True):
        assert link.state(1.0) == build_link(config, 1, link.device).state(1.0)


def test_a_chunk_is_drawn_once_for_all_that_come_to_it():
    path, slots = joint(8)
    for chunk in range(5):
        assert [slots.chunk(place, chunk, ahead=False).snr_db[0] for place in range(8)] == [
            100.0 * chunk + place for place in range(8)
        ]
    assert path.rows == 5 * 8


def test_who_looks_far_ahead_draws_for_itself():
    path, slots = joint(8)
    assert slots.chunk(3, 50, ahead=True).snr_db[9] == 5003.0
    assert path.rows == 1


def test_nothing_more_is_drawn_together_where_few_ask():
    path, slots = joint(32)
    for chunk in range(100):
        assert slots.chunk(7, chunk, ahead=False).carried[CHUNK] == pytest.approx(CHUNK * 1e4)
    assert path.rows == 2 * 32 + 98


def test_all_chunks_of_a_path_that_never_changes_are_one():
    link = build_link(AwgnConfig(), 0, 0)
    assert isinstance(slots := link._slots, OwnSlots)
    assert slots.chunk(0, ahead=False) is slots.chunk(9, ahead=False)
