"""What a network's Profile becomes where a quorum answers in the tail's place.

Policies then predict with the quorum's answers and the bytes of whole inputs, and engines charge those bytes:
nothing else has to know of quorums. Verdicts are those of learners that all answer; in a run some may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..codec.requests import QUORUM_BYTES, exit_state_message
from ..errors import ConfigError, DataError
from ..models.card import ModelCard
from ..models.grid import Grid
from ..models.pool_profile import PoolProfile
from ..models.profile import Profile
from ..policies.coordination import Ask, Opinion, Verdict, coordinate
from ..policies.decision import Decision
from ..policies.service_time import next_exit
from ..protos import splitpoint_pb2 as pb
from .opinions import ProfileOpinions
from .quorum_config import QuorumConfig

__all__ = ["check_quorum", "exit_state_bytes", "quorum_profile", "verdict"]


def check_quorum(config: QuorumConfig, card: ModelCard, decisions: Mapping[str, Decision]) -> None:
    """Raise ConfigError, naming policy and field, for Decisions (by policy) that compress what a quorum gets whole."""
    if config.on_device is not None and config.learners[config.on_device].name != card.name:
        raise ConfigError(
            f"quorum: the learner on the device must be the scenario's model '{card.name}', "
            f"not '{config.learners[config.on_device].name}'"
        )
    whole = Decision(0)
    for policy, decision in decisions.items():
        for field in ("keep", "dims", "bits", "symbols", "refine_bits", "refine_keep", "merge"):
            if getattr(decision, field) != getattr(whole, field):
                raise ConfigError(
                    f"policy '{policy}': {field} {getattr(decision, field):g}: a quorum gets the input whole"
                )


def exit_state_bytes(card: ModelCard) -> int:
    """What an exit state adds to a request."""
    state = exit_state_message(np.zeros(card.exit_state_dim), np.zeros(card.class_count), 1, 0.0)
    return pb.InferRequest(exit_state=state).ByteSize()


def verdict(config: QuorumConfig, opinions: ProfileOpinions, gates: int, sample: int, passed: int) -> Verdict:
    """The quorum's answer to one sample of which the device's learner has passed so many exits."""
    early = []
    if passed and config.on_device is not None:
        learner = config.on_device
        early.append(Opinion(learner, passed - 1, opinions.opinion(learner, sample, passed - 1), 0))
    generator = coordinate(config.rule(), config.asked, gates, parallel=False, early=early)
    result: Opinion | None = None
    asked: Ask | None = None
    try:
        while True:
            effect = generator.send(result)
            result = None
            if isinstance(effect, Ask):
                asked = effect
            else:
                assert asked is not None
                found = opinions.opinion(asked.learner, sample, asked.last)
                result = Opinion(asked.learner, asked.last, found, 0)
    except StopIteration as stopped:
        ended: Verdict = stopped.value
        return ended


def quorum_profile(profile: Profile, pool: PoolProfile, config: QuorumConfig) -> Profile:
    """`profile` with the quorum's answers behind every cut. Its grid is the cuts alone: whole inputs are sent.

    DataError where the two were not measured on the same samples, ConfigError where gates and exits differ.
    """
    card = profile.card
    opinions = ProfileOpinions(pool, [learner.name for learner in config.learners])
    gates = pool.gate_macs.shape[1]
    if gates != len(card.exits):
        raise ConfigError(f"quorum: the learners have {gates} gates, {card.name} has {len(card.exits)} exits")
    if not np.array_equal(pool.labels, profile.labels):
        raise DataError(f"quorum: the pool's {pool.split} profile is of other samples than {card.name}'s")
    grid = Grid(profile.cuts, (1.0,), (card.dim,), (8,))
    shape = len(grid.points()), len(profile), len(card.exits)
    images = profile.request_bytes[profile.config(0)]
    prediction, margin = np.empty(shape, np.uint16), np.empty(shape, np.float32)
    sizes = np.empty(shape[:2], np.int32)
    answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for place, cut in enumerate(grid.cuts):
        passed = next_exit(card, cut)
        if passed not in answers:
            found = [verdict(config, opinions, gates, sample, passed) for sample in range(len(profile))]
            answers[passed] = np.array([v.prediction for v in found]), np.array([v.margin for v in found])
        prediction[place, :, passed:] = answers[passed][0][:, None]
        margin[place, :, passed:] = answers[passed][1][:, None]
        prediction[place, :, :passed] = profile.head_prediction[:, :passed]
        margin[place, :, :passed] = profile.head_margin[:, :passed]
        sizes[place] = images + (exit_state_bytes(card) if passed else 0)
    return replace(
        profile,
        grid=grid,
        tail_prediction=prediction,
        tail_margin=margin,
        request_bytes=sizes,
        tokens=np.full(shape[:2], card.patch_tokens + 1, np.int32),
        reply_bytes=profile.reply_bytes + QUORUM_BYTES,
    )
