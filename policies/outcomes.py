"""What a Decision does to every sample of a Profile: the agent's rules on arrays.

Environments, baselines and the tests of the engines use this one walk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..models.profile import Profile
from .decision import Decision
from .rules import exits, offloads
from .service_time import next_exit

__all__ = ["HeadWalk", "Outcomes", "answering_exits", "walk", "walk_head"]


class Outcomes(NamedTuple):
    """One entry a sample, shape (S,).

    local       answered by an exit on the device
    cut         blocks executed on the device when it answered or sent
    exit        index of the exit that answers, here or on the server, when nothing goes wrong
    prediction, margin    of that exit
    nbytes      serialised request; 0 for local answers
    tokens      tokens that the server gets, CLS included; 0 for local answers
    fallback    prediction of the best exit so far (the first one where none was passed yet)
    """

    local: np.ndarray
    cut: np.ndarray
    exit: np.ndarray
    prediction: np.ndarray
    margin: np.ndarray
    nbytes: np.ndarray
    tokens: np.ndarray
    fallback: np.ndarray


class HeadWalk(NamedTuple):
    """Where the device's part of a walk ends, one entry a sample, shape (S,).

    cut    blocks executed when it answers or sends
    local  whether an exit there answers
    """

    cut: np.ndarray
    local: np.ndarray


def walk_head(
    profile: Profile, split: int, exit_margin: float, offload_slope: float, keep: float = 1.0
) -> HeadWalk:
    """The device's exits, in order, on all samples: answer, send, or go on, to `split` at most.

    keep matters to networks with gates, whose exits on the device see what is left.
    """
    _, margins = profile.head(keep)
    card = profile.card
    cut = np.full(len(profile), split)
    local = np.zeros(len(profile), bool)
    open_ = np.ones(len(profile), bool)
    previous: np.ndarray | None = None
    for index, after in enumerate(card.exits):
        if after > split:
            break
        # Margins are stored as float32; thresholds are compared with in full.
        margin = margins[:, index].astype(float)
        answers = open_ & (exits(margin, exit_margin) | (after == card.depth))
        local |= answers
        cut[answers] = after
        open_ &= ~answers
        if previous is not None:
            slow = open_ & offloads(margin, previous, offload_slope)
            cut[slow] = after
            open_ &= ~slow
        previous = margin
    return HeadWalk(cut, local)


def answering_exits(margins: np.ndarray, first: int, exit_margin: float) -> np.ndarray:
    """Index of the exit that answers on the server, (..., E) -> (...): the first from `first` on, the last anyway."""
    answers = np.asarray(exits(margins.astype(float), exit_margin))
    answers[..., -1] = True
    answers[..., :first] = False
    return answers.argmax(axis=-1)


def walk(profile: Profile, decision: Decision) -> Outcomes:
    """Follow `decision` for all samples, link up and no deadline in the way. GridError off the grid."""
    card = profile.card
    samples = np.arange(len(profile))
    cut, local = walk_head(
        profile, decision.split, decision.exit_margin, decision.offload_slope, decision.keep
    )
    head_prediction, head_margin = profile.head(decision.keep)
    # Exits passed on the device; the last of them is the one that answers there, or the best so far.
    passed = np.searchsorted(card.exits, cut, side="right") - 1
    exit = np.where(local, passed, -1)
    prediction = head_prediction[samples, np.maximum(exit, 0)].astype(np.int64)
    margin = head_margin[samples, np.maximum(exit, 0)].astype(float)
    nbytes, tokens = np.zeros(len(samples), int), np.zeros(len(samples), int)
    for place in np.unique(cut[~local]).tolist():
        here = samples[~local & (cut == place)]
        config = profile.config(place, decision.keep, decision.dims, decision.bits)
        margins = profile.tail_margin[config][here]
        exit[here] = found = answering_exits(margins, next_exit(card, place), decision.exit_margin)
        prediction[here] = profile.tail_prediction[config][here, found]
        margin[here] = margins[np.arange(len(here)), found]
        nbytes[here] = profile.request_bytes[config][here]
        tokens[here] = profile.tokens[config][here]
    fallback = head_prediction[samples, np.maximum(passed, 0)].astype(np.int64)
    return Outcomes(local, cut, exit, prediction, margin, nbytes, tokens, fallback)
