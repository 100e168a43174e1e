import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitpoint.models.macs import block_macs, embed_macs, exit_macs, head_macs, total_macs
from splitpoint.policies.schedule import BatchQueue
from splitpoint.policies.service_time import Pace, next_exit, segment_time, segments

from ..small_card import SMALL


def filled(groups):
    queue = BatchQueue()
    for arrival, group in enumerate(groups):
        queue.push(group, (arrival, group))
    return queue


def test_a_batch_is_the_oldest_request_and_its_group_behind_it():
    queue = filled("abacab")
    assert queue.take(8) == [(0, "a"), (2, "a"), (4, "a")]
    assert queue.take(8) == [(1, "b"), (5, "b")]
    assert queue.take(8) == [(3, "c")]
    assert queue.take(8) == []


def test_a_group_that_does_not_fit_goes_on_only_when_it_is_the_oldest_again():
    queue = filled("aaab")
    assert [item[0] for item in queue.take(2)] == [0, 1]
    assert [item[0] for item in queue.take(2)] == [2]
    assert [item[0] for item in queue.take(2)] == [3]


@given(groups=st.lists(st.sampled_from("abc")), max_batch=st.integers(1, 5), data=st.data())
def test_every_request_is_taken_or_dropped_once_and_no_group_starves(groups, max_batch, data):
    dropped_ones = data.draw(st.sets(st.integers(0, 30)))
    queue, seen, dropped = filled(groups), [], []

    def drop(item):
        if item[0] in dropped_ones:
            dropped.append(item[0])
            return True
        return False

    while queue:
        oldest = min((a for a in range(len(groups)) if a not in seen and a not in dropped_ones), default=None)
        batch = queue.take(max_batch, drop)
        assert len(batch) <= max_batch
        assert len({group for _, group in batch}) <= 1
        arrivals = [arrival for arrival, _ in batch]
        assert arrivals == sorted(arrivals)
        assert (arrivals[0] if arrivals else None) == oldest
        seen += arrivals
    assert sorted(seen + dropped) == list(range(len(groups)))
    assert len(queue) == 0


def test_segments_lie_between_the_exits_and_with_the_head_add_up_to_the_whole():
    card = SMALL
    found = segments(card, 0, 17)
    assert [(s.start, s.stop, s.exit) for s in found] == [(0, 1, 0), (1, 2, 1), (2, 4, 2)]
    assert found[0].macs == embed_macs(card) + block_macs(card, 17) + exit_macs(card)
    for cut in range(card.depth):
        assert head_macs(card, cut) + sum(s.macs for s in segments(card, cut, 17)) == total_macs(card)
    assert sum(s.macs for s in segments(card, 1, 5)) == 3 * block_macs(card, 5) + 2 * exit_macs(card)
    assert [(s.start, s.stop, s.exit) for s in segments(card, 3, 5)] == [(3, 4, 2)]
    assert [next_exit(card, cut) for cut in range(5)] == [0, 1, 2, 2, 3]


def test_a_segments_time_is_its_base_and_its_macs_over_the_rate():
    assert segment_time(Pace(0.002, 1e6), 3, 1000) == pytest.approx(0.002 + 0.003)
    assert segment_time(Pace(0.0, math.inf), 3, 1000) == 0.0
