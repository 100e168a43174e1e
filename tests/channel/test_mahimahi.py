import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.channel.config import (
    ConstantConfig,
    MahimahiConfig,
    OutageConfig,
    SnrReportConfig,
    build_link,
    build_medium,
    build_report,
)  # fmt: skip
from splitpoint.channel.mahimahi import MahimahiMedium, read_opportunities
from splitpoint.errors import DataError

LINK = build_link(ConstantConfig(rate_bps=1e9), 0, 0)


def test_one_byte_a_millisecond_is_twelve_megabit():
    medium = MahimahiMedium((0.001,))
    transfer = medium.submit(0.0, LINK, 140_000, 0)
    # 100 packets with their headers: 144 000 B over 1 500 B a millisecond.
    assert transfer.done_s == pytest.approx(0.096, abs=1e-9)
    assert medium.rate_bps(5.0) == pytest.approx(12e6)


def test_what_is_left_of_an_opportunity_goes_to_whoever_waits():
    medium = MahimahiMedium((0.01, 0.02, 0.05))
    ends = [medium.submit(0.0, LINK, 560, 0).done_s for _ in range(6)]
    # 600 B each: 1 500 B hold two and a half.
    assert ends == pytest.approx([0.01, 0.01, 0.02, 0.02, 0.02, 0.05])


def test_opportunities_that_nobody_waits_for_are_lost():
    medium = MahimahiMedium((0.01, 0.02, 0.05))
    assert medium.submit(0.0, LINK, 560, 0).done_s == pytest.approx(0.01)
    # The rest of the first opportunity is gone at 0.011.
    assert medium.submit(0.011, LINK, 560, 0) == pytest.approx((0.011, 0.02, 0.009))


def test_the_trace_repeats():
    medium = MahimahiMedium((0.0, 0.01, 0.04))
    assert medium.submit(0.005, LINK, 1400 * 5, 0).done_s == pytest.approx(0.08)
    assert medium.submit(400.03, LINK, 10, 0).done_s == pytest.approx(400.04)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.lists(st.tuples(st.floats(0, 0.1), st.integers(1, 9000)), min_size=1, max_size=12),
)
def test_it_agrees_with_filling_opportunities_one_by_one(gaps, messages):
    times, total = [], 0
    for gap in gaps:
        total += gap
        times.append(total / 1000.0)
    medium, now, queue, expected, found = MahimahiMedium(tuple(times)), 0.0, [], [], []
    for nbytes_gap, nbytes in messages:
        now += nbytes_gap
        queue.append([now, nbytes + 40 * math.ceil(nbytes / 1400)])
        found.append(medium.submit(now, LINK, nbytes, 0).done_s)
    k = 0
    while queue:
        at, room = (k // len(times)) * times[-1] + times[k % len(times)], 1500.0
        k += 1
        while queue and queue[0][0] <= at and room > 0:
            sent = min(room, queue[0][1])
            room -= sent
            queue[0][1] -= sent
            if queue[0][1] == 0:
                queue.pop(0)
                expected.append(at)
    assert found == pytest.approx(expected)


def test_outages_of_a_link_swallow():
    down = build_link(ConstantConfig(rate_bps=1e9, outages=OutageConfig(windows=((0.015, 0.1),))), 0, 0)
    medium = MahimahiMedium((0.01, 0.02, 0.03))
    assert medium.submit(0.0, down, 2000, 0) == (0.0, math.inf, 0.015)
    assert medium.submit(0.012, LINK, 10, 0) == pytest.approx((0.015, 0.02, 0.005))


def test_losses_of_a_link_cost_opportunities():
    lossy = build_link(ConstantConfig(rate_bps=1e9, loss=0.5), 0, 0)
    clean, dirty = (MahimahiMedium((0.001,)).submit(0.0, link, 140_000, 2).done_s for link in (LINK, lossy))
    assert dirty > 1.6 * clean


def test_reports_do_not_exceed_the_medium():
    medium = MahimahiMedium((0.01,))
    report = build_report(SnrReportConfig(), LINK, 0, medium)
    assert report.read(2.0, 0).rate_bps == pytest.approx(1.2e6)


def test_files_are_read_and_checked(tmp_path):
    good = tmp_path / "good.up"
    good.write_text("0\n5\n5\n20\n")
    assert read_opportunities(str(good)) == (0.0, 0.005, 0.005, 0.02)
    medium = build_medium(MahimahiConfig(path=str(good), rate_scale=0.5))
    assert medium.submit(0.001, LINK, 1400, 0).done_s == pytest.approx(0.005)
    good.write_bytes(b"\xef\xbb\xbf0 \r\n\r\n5\t\r\n20")
    assert read_opportunities.__wrapped__(str(good)) == (0.0, 0.005, 0.02)
    for text, message in (
        ("1\nx\n", "line 2"),
        ("# ms\n1\n1\n", "line 1"),
        ("1\n2\n3.5\n", "line 3: expected a time in ms"),
        (f"1\n{'9' * 5000}\n", "line 2"),
        ("1\n\u00b2\n\n\n", "line 2"),
        ("5\n3\n", "line 2"),
        ("", "no opportunity"),
        ("0\n", "no opp"),
    ):
        bad = tmp_path / f"bad{len(text)}.up"
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_opportunities(str(bad))
    with pytest.raises(DataError, match=r"missing\.up"):
        read_opportunities(str(tmp_path / "missing.up"))
