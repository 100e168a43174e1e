from splitpoint.sim.sections import Fault
from splitpoint.sim.timeline import Timeline
from splitpoint.sim.virtual_faults import Life


class Watched:
    """A life with all that it called, and how it stood at given times."""

    def __init__(self, *faults: Fault) -> None:
        self.timeline = Timeline()
        self.calls: list[tuple[float, str]] = []
        self.life = Life(
            self.timeline,
            faults,
            lambda now_s, killed: self.calls.append((now_s, "killed" if killed else "drains")),
            lambda now_s: self.calls.append((now_s, "thawed")),
        )

    def at(self, *times: float) -> list[tuple[bool, bool, int]]:
        """(reachable, frozen, number) at each time."""
        found: list[tuple[bool, bool, int]] = []
        for time_s in times:
            self.timeline.after(
                time_s,
                lambda *_: found.append((self.life.reachable, self.life.frozen, self.life.number)),
                None,
            )
        self.timeline.run()
        return found


def test_without_faults_it_lives_for_ever():
    assert Watched().at(0.0, 1e6) == [(True, False, 0)] * 2


def test_a_kill_ends_a_life_and_a_restart_begins_the_next():
    life = Watched(Fault(kind="kill", at_s=1.0, for_s=2.0))
    assert life.at(0.5, 1.5, 3.5) == [(True, False, 0), (False, False, 1), (True, False, 1)]
    assert life.calls == [(1.0, "killed")]


def test_a_drain_refuses_for_a_while_in_the_same_life():
    life = Watched(Fault(kind="drain", at_s=1.0, for_s=2.0))
    assert life.at(1.5, 3.5) == [(False, False, 0), (True, False, 0)]
    assert life.calls == [(1.0, "drains")]


def test_what_waits_for_a_thaw_goes_on_then_in_order():
    watched = Watched(Fault(kind="freeze", at_s=1.0, for_s=2.0))
    heard: list[tuple[float, str, int]] = []
    for time_s, name in ((1.5, "first"), (2.5, "second")):
        watched.timeline.after(
            time_s,
            lambda _, name: watched.life.once_thawed(
                lambda now_s, *said: heard.append((now_s, *said)), name, 7
            ),
            name,
        )
    assert watched.at(0.5, 2.0, 3.5) == [(True, False, 0), (True, True, 0), (True, False, 0)]
    assert heard == [(3.0, "first", 7), (3.0, "second", 7)]
    assert watched.calls == [(3.0, "thawed")]


def test_overlapping_freezes_each_end_for_themselves():
    life = Watched(*(Fault(kind="freeze", at_s=at_s, for_s=2.0) for at_s in (1.0, 2.0)))
    assert life.at(1.5, 3.5, 4.5) == [(True, True, 0), (True, True, 0), (True, False, 0)]
    assert life.calls == [(4.0, "thawed")]


def test_overlapping_kills_each_end_for_themselves():
    life = Watched(*(Fault(kind="kill", at_s=at_s, for_s=2.0) for at_s in (1.0, 2.0)))
    assert life.at(1.5, 3.5, 4.5) == [(False, False, 1), (False, False, 2), (True, False, 2)]
    assert life.calls == [(1.0, "killed"), (2.0, "killed")]


def test_a_kill_ends_a_freeze_and_what_waited_finds_nobody():
    freezes = [
        Fault(kind="freeze", at_s=at_s, for_s=for_s) for at_s, for_s in ((1.0, 9.0), (2.5, 9.0), (8.0, 4.0))
    ]
    watched = Watched(*freezes, Fault(kind="kill", at_s=2.0, for_s=2.0))
    heard: list[tuple[float, bool]] = []
    watched.timeline.after(
        1.5,
        lambda *_: watched.life.once_thawed(lambda now_s: heard.append((now_s, watched.life.reachable))),
        None,
    )
    # The second freeze met a dead process; the first would have ended within the third.
    assert watched.at(1.7, 3.0, 5.0, 11.0, 12.5) == [
        (True, True, 0),
        (False, False, 1),
        (True, False, 1),
        (True, True, 1),
        (True, False, 1),
    ]
    assert heard == [(2.0, False)]
    assert watched.calls == [(2.0, "killed"), (2.0, "thawed"), (12.0, "thawed")]
