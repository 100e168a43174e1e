import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.channel.config import ConstantConfig, OutageConfig, RoundRobinConfig, build_link, build_medium

# A full packet takes 10 ms.
LINKS = [build_link(ConstantConfig(rate_bps=8 * 1440 / 0.01), 0, device) for device in range(4)]


def drain(medium):
    """Pump until nothing pends: completions in order."""
    completed = []
    while (at := medium.next_completion()) < math.inf:
        popped = medium.pop_completed(at)
        assert popped
        completed += popped
    return completed


def submit(medium, now, device, packets, tag=None):
    assert medium.submit(now, LINKS[device], 1400 * packets, 0, tag) is None


def test_alone_it_is_the_transfer_time():
    medium = build_medium(RoundRobinConfig())
    submit(medium, 1.0, 0, 3, "a")
    (done,) = drain(medium)
    assert (done.tag, done.device, done.key) == ("a", 0, 0)
    assert done.transfer == pytest.approx((1.0, 1.03, 0.03))


def test_packets_of_two_devices_alternate():
    medium = build_medium(RoundRobinConfig())
    submit(medium, 0.0, 0, 4, "long")
    submit(medium, 0.0, 1, 2, "short")
    short, long = drain(medium)
    assert short.transfer == pytest.approx((0.01, 0.04, 0.02))
    assert long.transfer == pytest.approx((0.0, 0.06, 0.04))


def test_a_later_message_takes_its_turns_from_the_packet_on_the_air():
    medium = build_medium(RoundRobinConfig())
    submit(medium, 0.0, 0, 3)
    assert medium.next_completion() == pytest.approx(0.03)
    submit(medium, 0.005, 1, 1)
    assert medium.next_completion() == pytest.approx(0.02)
    first, second = drain(medium)
    assert first.transfer == pytest.approx((0.01, 0.02, 0.01))
    assert second.transfer == pytest.approx((0.0, 0.04, 0.03))


def test_a_device_that_has_a_message_after_its_last_packet_does_not_go_twice_in_a_row():
    medium = build_medium(RoundRobinConfig())
    submit(medium, 0.0, 0, 1, "first")
    submit(medium, 0.002, 0, 1, "again")
    submit(medium, 0.004, 1, 1, "other")
    assert [done.tag for done in drain(medium)] == ["first", "other", "again"]


def test_messages_of_one_device_keep_their_order():
    medium = build_medium(RoundRobinConfig())
    for tag in range(5):
        submit(medium, 0.001 * tag, 0, 1 + tag % 2, tag)
    assert [done.tag for done in drain(medium)] == [0, 1, 2, 3, 4]


def test_an_outage_swallows_the_message_and_frees_the_medium():
    medium = build_medium(RoundRobinConfig())
    config = ConstantConfig(rate_bps=8 * 1440 / 0.01, outages=OutageConfig(windows=((0.025, 9.0),)))
    down = build_link(config, 0, 9)
    medium.submit(0.0, down, 1400 * 3, 0, "cut")
    medium.submit(0.0, down, 1400, 0, "behind")
    submit(medium, 0.0, 0, 3, "fine")
    ends = {done.tag: done.transfer for done in drain(medium)}
    # Packets at 0 (cut), 10 (fine), 20 (cut, swallowed at 25), 25 (fine), 35 (behind, at once), 35 (fine).
    assert ends["cut"] == pytest.approx((0.0, math.inf, 0.015))
    assert ends["behind"] == pytest.approx((0.035, math.inf, 0.0))
    assert ends["fine"] == pytest.approx((0.01, 0.045, 0.03))


def test_bytes_go_behind_the_symbols_and_into_the_outage_that_begins_then():
    config = ConstantConfig(
        rate_bps=8 * 1440 / 0.01, bandwidth_hz=1e5, outages=OutageConfig(windows=((0.02, 9.0),))
    )
    for symbols, expected in ((500, (0.0, 0.015, 0.015)), (1500, (0.0, math.inf, 0.02))):
        medium = build_medium(RoundRobinConfig())
        medium.submit(0.0, build_link(config, 0, 0), 1400, 0, symbols=symbols)
        (done,) = drain(medium)
        assert done.transfer == pytest.approx(expected)


def test_a_message_submitted_in_an_outage_ends_at_once():
    medium = build_medium(RoundRobinConfig())
    config = ConstantConfig(rate_bps=1e6, outages=OutageConfig(windows=((1.0, 2.0),)))
    medium.submit(1.5, build_link(config, 0, 0), 10, 3, "x")
    assert medium.next_completion() == 1.5
    assert medium.pop_completed(1.5) == [("x", 0, 3, (1.5, math.inf, 0.0))]
    assert medium.next_completion() == math.inf


@given(
    st.lists(st.tuples(st.floats(0, 0.1), st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=25),
    st.floats(0.001, 0.05),
)
def test_work_is_conserved_however_it_is_pumped(messages, step):
    lazy, eager = build_medium(RoundRobinConfig()), build_medium(RoundRobinConfig())
    now, pumped, found = 0.0, 0.0, []
    for tag, (gap, device, packets) in enumerate(messages):
        now += gap
        while pumped + step < now:
            pumped += step
            found += eager.pop_completed(pumped)
        submit(lazy, now, device, packets, tag)
        submit(eager, now, device, packets, tag)
    found += drain(eager)
    expected = drain(lazy)
    assert sorted(done.tag for done in expected) == list(range(len(messages)))
    assert sorted(found) == pytest.approx(sorted(expected)) if False else sorted(found) == sorted(expected)
    # One packet at a time: the air is busy for the sum of the airtimes.
    total = sum(0.01 * packets for _, _, packets in messages)
    assert sum(done.transfer.airtime_s for done in expected) == pytest.approx(total)
    assert max(done.transfer.done_s for done in expected) >= total - 1e-9
