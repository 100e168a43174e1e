"""The agent's logic for requests that come together and may be merged: one Decision, one message (ADC).

    decide ─► RunBatch to the next exit ─► who is sure ────────────────► Answer (local)
                  ▲            │ the others, until `split`
                  └────────────┴─► OffloadBatch ─► Reply for each ─────► Answer
                                      └ none in time, or link down ────► Answer (local, degraded)

As `agent`, it does no I/O and reads no clock. A merged request has one cut, so the rule on rising confidence is not
asked, and members whose exit is sure are answered when all have reached it. Merging: arXiv 2509.15058.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ..policies.decision import Decision
from ..policies.rules import exits
from .agent import Agent
from .effects import Answer, BatchEffect, OffloadBatch, Reading, RunBatch, local_answer, remote_answer

__all__ = ["answer_batch"]


def answer_batch(
    agent: Agent, decision: Decision, count: int, now_s: float, due_s: float, link_up: bool
) -> Generator[BatchEffect, Any, list[Answer]]:
    """Answer `count` requests of one arrival, each exactly once; arguments as of `Agent.answer`."""
    block_s = agent.times(decision.keep)
    answers: list[Answer | None] = [None] * count
    readings: list[Reading | None] = [None] * count
    members = tuple(range(count))
    cut, read, in_time = 0, False, True
    for stop in agent.stops(decision.split):
        if read and now_s + len(members) * (block_s[stop] - block_s[cut]) > due_s - agent.slack_s:
            in_time = False
            break
        now_s, found = yield RunBatch(cut, stop, decision.keep, members)
        cut = stop
        if found[0] is None:
            continue
        read = True
        for member, reading in zip(members, found, strict=True):
            readings[member] = reading
            if exits(reading.margin, decision.exit_margin) or cut == agent.depth:
                answers[member] = local_answer(decision, reading, cut, now_s)
        members = tuple(member for member in members if answers[member] is None)
        if not members:
            break
    if members:
        first = agent.exits[0]
        reserve_s = 0.0 if read else len(members) * (block_s[first] - block_s[cut])
        answer_by_s = due_s - agent.slack_s - reserve_s
        offloaded = link_up and in_time and answer_by_s > now_s
        replies: Sequence[Any] | None = None
        if offloaded:
            now_s, replies = yield OffloadBatch(cut, decision, answer_by_s, members)
        if replies is None and not read:
            now_s, found = yield RunBatch(cut, first, decision.keep, members)
            cut = first
            for member, reading in zip(members, found, strict=True):
                readings[member] = reading
        for place, member in enumerate(members):
            if replies is not None:
                answers[member] = remote_answer(decision, replies[place], cut, now_s)
            else:
                own = readings[member]
                assert own is not None
                answers[member] = local_answer(decision, own, cut, now_s, offloaded, degraded=True)
    return [answer for answer in answers if answer is not None]
