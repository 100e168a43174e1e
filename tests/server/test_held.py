from hypothesis import given
from hypothesis import strategies as st

from splitpoint.server.held import HeldRequests


def test_a_request_is_held_once_and_for_its_time():
    held = HeldRequests(most=4, hold_s=2.0)
    held.put("a", 1, 0.0)
    held.put("b", 2, 1.0)
    assert held.take("a", 2.0) == 1
    assert held.take("a", 2.0) is None
    assert held.take("b", 3.1) is None
    assert held.take("c", 0.0) is None


def test_the_oldest_makes_room():
    held = HeldRequests(most=2, hold_s=9.0)
    for number in range(4):
        held.put(number, number, 0.0)
    assert [held.take(number, 0.0) for number in range(4)] == [None, None, 2, 3]


def test_a_server_that_dies_forgets():
    held = HeldRequests()
    held.put(1, "x", 0.0)
    held.clear()
    assert held.take(1, 0.0) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0.0, 1.0)), max_size=60), st.integers(0, 5))
def test_there_are_never_more_than_allowed_and_none_too_old(puts, most):
    held, now_s, since = HeldRequests(most, 1.5), 0.0, {}
    for key, passed_s in puts:
        now_s += passed_s
        held.put(key, now_s, now_s)
        since.pop(key, None)
        since[key] = now_s
        assert len(held) <= most
    newest_keys = list(reversed(since))[:most]
    for key, put_s in since.items():
        there = key in newest_keys and now_s - put_s <= 1.5
        assert held.take(key, now_s) == (put_s if there else None)
        assert held.take(key, now_s) is None
    newest = max(since, key=lambda key: since[key], default=None)
    if newest is not None and most:
        held.put(newest, "again", now_s)
        assert held.take(newest, now_s + 1.4) == "again"
