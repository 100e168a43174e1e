"""What a learner's server says is looked at before it counts: as an opinion, and as what asking it costs."""

import asyncio
import math

import numpy as np
import pytest

from splitpoint.errors import RemoteError
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.server.voters import RemoteVoter

from ..small_card import SMALL

DEVICE = SMALL.to_message()
CLASSES = len(DEVICE.classes)


class Host:
    """A server that says these things, whatever it is asked."""

    address, serving, doubtful = "test:1", True, False
    learners = {  # noqa: RUF012 - nobody changes it
        "a": pb.Learner(
            name="a",
            gate_macs=[100] * len(DEVICE.exits),
            classes=CLASSES,
            image_height=DEVICE.image_height,
            image_width=DEVICE.image_width,
            channels=DEVICE.channels,
        )
    }

    def __init__(self, results, away_s=0.0):
        self.client, self._results, self._away_s = self, results, away_s

    async def run_gates(self, message, timeout):
        await asyncio.sleep(self._away_s)
        for result in self._results:
            yield result


def said(**changes):
    even = np.full(CLASSES, 1.0 / CLASSES, "<f2").tobytes()
    return pb.GateResult(**({"gate": 0, "probabilities": even, "macs": 100, "server_s": 0.01} | changes))


async def opinions(voter, last=0):
    return [found async for found in voter.ask(pb.InferRequest(request_id=1), 0, last, 1.0)]


@pytest.mark.parametrize(
    "changes",
    [
        {"gate": 1},
        {"probabilities": b""},
        {"probabilities": np.full(CLASSES, np.nan, "<f2").tobytes()},
        {"probabilities": np.full(CLASSES, -0.5, "<f2").tobytes()},
        {"macs": 2**64 - 1},
        {"server_s": math.inf},
        {"server_s": -math.inf},
        {"server_s": -1.0},
        {"server_s": math.nan},
    ],
)
def test_what_is_no_opinion_is_refused_and_not_reckoned_with(changes):
    voter = RemoteVoter(0, "a", Host([said(**changes)]), DEVICE)
    before_s = voter.expected_s
    with pytest.raises(RemoteError, match="test:1: a sent"):
        asyncio.run(opinions(voter))
    assert voter.expected_s == before_s


def test_of_a_learner_that_a_server_has_not_it_is_said_which_it_has(caplog):
    voter = RemoteVoter(0, "files/b.safetensors", Host([]), DEVICE)
    assert voter.card is None
    assert voter.card is None
    (said_once,) = (record.getMessage() for record in caplog.records)
    assert said_once == "test:1: not asked: there is no learner files/b.safetensors; known: a"


def test_one_that_ends_too_early_says_so():
    voter = RemoteVoter(0, "a", Host([]), DEVICE)
    with pytest.raises(RemoteError, match="test:1: a said nothing of gate 0"):
        asyncio.run(opinions(voter))


def test_what_an_opinion_cost_is_expected_of_the_next():
    voter = RemoteVoter(0, "a", Host([said(macs=300, server_s=0.5)]), DEVICE)
    [found] = asyncio.run(opinions(voter))
    assert (found.learner, found.gate, found.macs) == (0, 0, 300)
    assert voter.available
    # 300 MACs took half a second; the way there and back took none.
    assert voter.expected_s == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("server_s", [1e30, 1e-300])
def test_a_time_that_is_a_lie_can_still_be_compared_with_the_others(server_s):
    voter = RemoteVoter(0, "a", Host([said(server_s=server_s)]), DEVICE)
    for _ in range(3):
        asyncio.run(opinions(voter))
        assert voter.expected_s >= 0.0


def test_the_way_is_that_of_a_question_and_not_the_pause_between_two_opinions():
    results = [said(gate=gate, macs=0, server_s=0.0) for gate in range(3)]
    voter = RemoteVoter(0, "a", Host(results, away_s=0.1), DEVICE)
    for _ in range(2):
        asyncio.run(opinions(voter, last=2))
    assert voter.expected_s >= 0.1
