"""What a Decision does to every sample of a Profile: the agent's rules on arrays.

Environments, baselines and the tests of the engines use this one walk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..models.profile import Profile
from .decision import Decision
from .rules import exits, offloads

__all__ = ["Outcomes", "walk"]


class Outcomes(NamedTuple):
    """One entry a sample, shape (S,).

    local       answered by an exit on the device
    cut         blocks executed on the device when it answered or sent
    exit        index of the exit that answers, here or on the server, when nothing goes wrong
    prediction, margin    of that exit
    nbytes      serialised request; 0 for local answers
    tokens      tokens that the server gets, CLS included; 0 for local answers
    fallback    prediction of the best exit so far (the first one where none was passed yet)
    fallback_cut          blocks executed for it
    """

    local: np.ndarray
    cut: np.ndarray
    exit: np.ndarray
    prediction: np.ndarray
    margin: np.ndarray
    nbytes: np.ndarray
    tokens: np.ndarray
    fallback: np.ndarray
    fallback_cut: np.ndarray


def walk(profile: Profile, decision: Decision) -> Outcomes:
    """Follow `decision` for all samples, link up and no deadline in the way. GridError off the grid."""
    card = profile.card
    samples = np.arange(len(profile.labels))
    head_margin = profile.head_margin
    cut = np.full(len(samples), decision.split)
    exit = np.full(len(samples), -1)
    open_ = np.ones(len(samples), bool)
    passed = np.zeros(len(samples), int)
    for index, after in enumerate(card.exits):
        if after > decision.split:
            break
        margin = head_margin[:, index]
        passed[open_] = index
        answers = open_ & (exits(margin, decision.exit_margin) | (after == card.depth))
        exit[answers], cut[answers] = index, after
        open_ &= ~answers
        if index > 0:
            slow = open_ & offloads(margin, head_margin[:, index - 1], decision.offload_slope)
            cut[slow] = after
            open_ &= ~slow
    local = exit >= 0
    prediction = profile.head_prediction[samples, np.maximum(exit, 0)].astype(np.int64)
    margin = head_margin[samples, np.maximum(exit, 0)].astype(float)
    nbytes, tokens = np.zeros(len(samples), int), np.zeros(len(samples), int)
    for place in np.unique(cut[~local]).tolist():
        here = samples[~local & (cut == place)]
        config = profile.config(place, decision.keep, decision.dims, decision.bits)
        margins = profile.tail_margin[config][here]
        answers = np.asarray(exits(margins, decision.exit_margin))
        answers[:, -1] = True
        answers[:, : sum(after <= place for after in card.exits)] = False
        exit[here] = found = answers.argmax(axis=1)
        prediction[here] = profile.tail_prediction[config][here, found]
        margin[here] = margins[np.arange(len(here)), found]
        nbytes[here] = profile.request_bytes[config][here]
        tokens[here] = profile.tokens[config]
    fallback = profile.head_prediction[samples, passed].astype(np.int64)
    fallback_cut = np.maximum(cut, card.exits[0])
    return Outcomes(local, cut, exit, prediction, margin, nbytes, tokens, fallback, fallback_cut)
