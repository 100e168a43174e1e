"""The coordinator in virtual time, to the second: three learners whose opinions, speeds and faults are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from splitpoint.sim.quorum_config import QuorumConfig
from splitpoint.sim.sections import Fault
from splitpoint.sim.timeline import Timeline
from splitpoint.sim.virtual_quorum import VirtualQuorum

HOP_S, PATIENCE_S, PROBE_S = 0.001, 0.1, 0.25
MACS = [[3000, 30_000], [1000, 10_000], [2000, 20_000]]
FIRST, SECOND, THIRD = (2 * HOP_S + 0.01 + macs / 1e6 for macs in (1000, 2000, 3000))
"""From asking to hearing the learners' first gates, the cheapest first."""
SURE = np.array([0.1, 0.8, 0.1], np.float32)
"""What all of them say but for the last, who is of another opinion."""
OTHER = np.array([0.8, 0.1, 0.1], np.float32)


class Run:
    """Requests at given times, with a second to answer each; when each was replied to, and which were lost when."""

    def __init__(
        self,
        *times: float,
        faults: tuple[Fault, ...] = (),
        places: tuple[str, ...] = ("a", "b", "c"),
        limit_s: float = 1.0,
        max_pending: int = 9,
        server: dict[str, Any] | None = None,
        passed: int = 0,
        **options: Any,
    ) -> None:
        config = QuorumConfig(
            learners=[{"name": f"l{index}", "place": place} for index, place in enumerate(places)],
            **{
                "statistic": "confidence",
                "confidence": 0.5,
                "patience_s": PATIENCE_S,
                "probe_s": PROBE_S,
                **options,
            },
            hop_s=HOP_S,
            server={"base_s": 0.01, "macs_per_s": 1e6, **(server or {})},
        )
        self.replied: dict[int, float] = {}
        self.lost: dict[int, float] = {}
        timeline = Timeline()
        opinions: Any = SimpleNamespace(opinion=lambda learner, sample, gate: OTHER if learner == 0 else SURE)
        self.quorum = VirtualQuorum(
            timeline, config, opinions, MACS, lambda cut: passed, max_pending, faults,
            lambda now_s, call: self._note(self.replied, now_s, call),
            lambda now_s, call: self._note(self.lost, now_s, call),
        )  # fmt: skip
        self.calls = []
        for sample, time_s in enumerate(times):
            trip = SimpleNamespace(votes=0, asked=0, quorum_macs=0)
            call: Any = SimpleNamespace(
                sample=sample, cut=2, answer_by_s=time_s + limit_s, trip=trip, reply=None
            )
            self.calls.append(call)
            timeline.after(time_s, self.quorum.receive, call)
        timeline.run(until=5.0)

    def _note(self, ends: dict[int, float], now_s: float, call: Any) -> None:
        assert call.sample not in self.replied | self.lost
        ends[call.sample] = now_s

    def said(self, sample: int = 0) -> tuple[int, int, int]:
        """Votes, learners asked and MACs."""
        trip = self.calls[sample].trip
        return trip.votes, trip.asked, trip.quorum_macs


def freeze(process: str, at_s: float, for_s: float) -> Fault:
    return Fault(kind="freeze", at_s=at_s, for_s=for_s, process=process)


def test_the_cheapest_are_asked_first_until_a_majority_stands() -> None:
    run = Run(0.5)
    assert run.replied == {0: pytest.approx(0.5 + FIRST + SECOND)}
    assert run.said() == (2, 2, 3000)
    assert run.calls[0].reply[:1] == (1,)
    assert run.calls[0].reply.exit == 0
    assert run.quorum.load == 0
    listed = Run(0.5, order="listed")
    assert listed.replied == {0: pytest.approx(0.5 + THIRD + FIRST + SECOND)}
    assert listed.said() == (3, 3, 6000)


def test_all_at_once_are_heard_as_they_come() -> None:
    run = Run(0.0, parallel=True)
    assert run.replied == {0: pytest.approx(SECOND)}
    assert run.said() == (2, 3, 3000)


def test_those_that_wait_for_a_learner_are_a_batch() -> None:
    run = Run(0.0, 0.0, 0.0, places=("a",))
    both_s = THIRD + 0.01 + 2 * 0.003
    assert run.replied == {0: pytest.approx(THIRD), 1: pytest.approx(both_s), 2: pytest.approx(both_s)}


def test_patience_begins_anew_with_each_opinion() -> None:
    # The second gate of the second learner is heard 30 ms after its first, and 44 ms after it was asked.
    run = Run(0.0, parallel=True, confidence=0.9, patience_s=0.035)
    assert run.replied == {0: pytest.approx(SECOND + 0.01 + 0.02)}
    assert run.said() == (2, 3, 1000 + 2000 + 3000 + 10_000 + 20_000)


def test_a_frozen_learner_begins_when_it_goes_on() -> None:
    run = Run(0.0, faults=(freeze("b", 0.0, 0.3),), patience_s=5.0)
    assert run.replied == {0: pytest.approx(0.3 + FIRST - HOP_S + SECOND)}


def test_a_majority_that_is_not_sure_goes_on_to_the_next_gate() -> None:
    run = Run(0.0, confidence=0.9)
    # At the first gate the third is not asked any more; at the last one nobody is surer, and the vote decides.
    later = 4 * HOP_S + 2 * 0.01 + 0.03
    assert run.replied == {0: pytest.approx(FIRST + SECOND + later)}
    assert (run.said(), run.calls[0].reply.exit) == ((2, 2, 33_000), 1)


@pytest.mark.parametrize(("passed", "expected"), [(0, (2, 2, 3000)), (1, (2, 2, 1000))])
def test_what_the_devices_learner_has_said_is_a_vote(passed: int, expected: tuple[int, int, int]) -> None:
    run = Run(0.0, places=("a", "b", "device"), passed=passed)
    # Without it the cheapest and the dearest disagree, and both go on.
    if passed:
        assert run.replied == {0: pytest.approx(FIRST)}
        assert run.said() == expected
    else:
        assert run.said()[0] == 2
        assert run.replied[0] > FIRST + THIRD


def test_a_silent_learner_is_left_out_until_a_probe_finds_it() -> None:
    # Silent at .1; probed at .35, in vain, and at .6.
    run = Run(0.0, 0.3, 0.59, 0.8, faults=(freeze("b", 0.0, 0.5),))
    without = SECOND + THIRD + 2 * 0.01 + 4 * HOP_S + 0.05
    assert run.replied[0] == pytest.approx(PATIENCE_S + without)
    assert [run.replied[1] - 0.3, run.replied[2] - 0.59] == pytest.approx([without, without])
    assert run.replied[3] - 0.8 == pytest.approx(FIRST + SECOND)


def test_a_learner_that_dies_is_known_to_at_once_and_its_housemates_go_with_it() -> None:
    kill = Fault(kind="kill", at_s=0.005, for_s=0.1, process="b")
    alone = Run(0.0, faults=(kill,))
    assert alone.replied[0] == pytest.approx(0.005 + SECOND + THIRD + 2 * 0.01 + 4 * HOP_S + 0.05)
    # Those in its queue are lost with it, and nobody waits for them.
    both = Run(0.0, 0.0, faults=(kill,), patience_s=5.0).replied
    assert both.keys() == {0, 1}
    assert max(both.values()) < 0.2
    together = Run(0.0, 0.0055, 0.4, places=("a", "b", "b"), faults=(kill,))
    # The one that is left decides alone, until a probe at .255 finds both of the others.
    assert together.said(1) == (1, 1, 3000)
    assert together.replied[1] == pytest.approx(0.0055 + THIRD)
    assert together.said(2) == (2, 2, 3000)


def test_learners_that_are_all_late_have_till_the_deadline() -> None:
    run = Run(0.0, faults=tuple(freeze(process, 0.0, 0.33) for process in "abc"))
    # Each is given up after the other; what was asked of them then is no longer wanted, and they are asked anew.
    assert run.replied == {0: pytest.approx(0.33 + FIRST - HOP_S + SECOND)}
    assert run.lost == {}


def test_at_the_deadline_those_that_spoke_decide() -> None:
    run = Run(0.0, faults=(freeze("c", 0.0, 9.0),), limit_s=0.05)
    assert run.replied == {0: pytest.approx(0.045)}
    assert run.said() == (1, 2, 1000)
    assert Run(0.0, faults=tuple(freeze(p, 0.0, 9.0) for p in "abc"), limit_s=0.05).replied == {}


def test_where_all_are_dead_the_request_is_lost() -> None:
    kills = tuple(Fault(kind="kill", at_s=0.0, for_s=9.0, process=process) for process in "abc")
    assert Run(0.2, faults=kills).lost == {0: pytest.approx(0.2 + 3 * HOP_S)}


def test_a_coordinator_that_is_killed_loses_what_it_has() -> None:
    run = Run(0.0, 0.1, 0.3, faults=(Fault(kind="kill", at_s=0.01, for_s=0.2),))
    assert run.lost == {0: pytest.approx(0.01), 1: pytest.approx(0.1)}
    assert run.replied == {2: pytest.approx(0.3 + FIRST + SECOND)}


def test_a_coordinator_that_hangs_goes_on_where_it_was() -> None:
    run = Run(0.0, 0.1, faults=(Fault(kind="freeze", at_s=0.005, for_s=0.3),), patience_s=5.0)
    # The first opinion waits for it, and so does the second request, whose learner is then asked.
    assert run.replied[0] == pytest.approx(0.305 + SECOND)
    assert run.replied[1] > 0.305 + FIRST


def test_more_requests_than_it_may_have_are_refused() -> None:
    run = Run(0.0, 0.001, max_pending=1)
    assert run.replied == {1: pytest.approx(0.001), 0: pytest.approx(FIRST + SECOND)}
    assert [call.reply is None for call in run.calls] == [False, True]


def test_a_learner_that_has_enough_to_do_refuses() -> None:
    run = Run(0.0, 0.005, places=("p", "p", "p"), server={"max_pending": 1})
    assert run.replied == {0: pytest.approx(FIRST + SECOND)}
    # A way there and one back for each of the three, who are in one process.
    assert run.lost == {1: pytest.approx(0.005 + 3 * 2 * HOP_S)}
