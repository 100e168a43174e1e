"""The methods that `squad.py` compares, as curves: quorums, single learners, and the static ensemble.

Costs are MACs and seconds, one learner after another, and in parallel, where all begin at once on machines of their
own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from curves import SPLITS, Answers, Curve

from splitpoint.errors import DataError
from splitpoint.models.pool_profile import PoolProfile, pool_path
from splitpoint.policies.early_exit import scores, stops
from splitpoint.policies.quorum import QuorumRule
from splitpoint.policies.squad import QuorumTable, quorum_table
from splitpoint.policies.thresholds import candidates
from splitpoint.seeding import generator

METRICS = ("macs", "seconds", "parallel_macs", "parallel_seconds")
"""Latencies; `macs` is also the work of asking one after another."""
THRESHOLDS = 96

Profiles = dict[str, PoolProfile]


def load_profiles(pool: str | Path) -> Profiles:
    """Both splits' profiles, with one set of times: the lesser of the two measurements, which load disturbed less."""
    found = {split: PoolProfile.load(pool_path(pool, split)) for split in SPLITS}
    for split, profile in found.items():
        profile.require(split)
    if len({profile.ids for profile in found.values()}) > 1:
        raise DataError(f"the two profiles of {pool} are of different learners: measure both anew")
    times = np.minimum(*(profile.gate_s for profile in found.values()))
    return {split: replace(profile, gate_s=times) for split, profile in found.items()}


def quorum_curve(
    name: str,
    profiles: Profiles,
    members: list[int],
    rule: QuorumRule,
    *,
    shuffled: bool = False,
) -> Curve:
    """SQUAD by these learners, asked as listed, or in an order of its own for each sample."""
    tables: dict[str, QuorumTable] = {}
    answers = {}
    for split, profile in profiles.items():
        order = None
        if shuffled:
            draws = generator(0, "random-order", SPLITS.index(split))
            order = np.stack([draws.permutation(len(members)) for _ in range(len(profile))])
        table = tables[split] = quorum_table(
            profile.probabilities[members].astype(np.float32), order=order, compare=rule.compare
        )
        gate_macs, gate_s = profile.gate_macs[members], profile.gate_s[members]
        answers[split] = Answers(
            table.right(profile.labels),
            {
                "macs": table.sequential(gate_macs),
                "seconds": table.sequential(gate_s),
                "parallel_macs": table.parallel(gate_macs),
                "parallel_seconds": table.parallel(gate_s),
                "parallel_work": table.parallel_work(gate_macs, gate_s),
                "asked": table.asked().astype(float),
            },
        )
    field = "alpha" if rule.statistic == "welch" else "confidence"
    found = tables["calibration"]
    values = found.found.p[found.quorum & found.found.tested] if field == "alpha" else found.found.confidence
    thresholds = np.clip(candidates(values, THRESHOLDS), 0.0, 1.0)
    return Curve(
        name,
        thresholds,
        answers,
        lambda split, value: tables[split].stop(rule.model_copy(update={field: value})),
        "quorum",
    )


def single_curve(profiles: Profiles, learner: int, rule: str, kind: str) -> Curve:
    """One learner that stops by itself."""
    scored = {
        split: scores(rule, profile.probabilities[learner].astype(np.float32))
        for split, profile in profiles.items()
    }
    answers = {}
    for split, profile in profiles.items():
        right = profile.probabilities[learner].argmax(axis=-1) == profile.labels[:, None]
        macs, seconds = (
            np.broadcast_to(np.cumsum(values[learner]).astype(float), right.shape)
            for values in (profile.gate_macs, profile.gate_s)
        )
        answers[split] = Answers(right, dict(zip(METRICS, (macs, seconds, macs, seconds), strict=True)))
    thresholds = candidates(scored["calibration"], THRESHOLDS)
    name = f"{profiles['calibration'].names[learner]}, {rule}"
    return Curve(name, thresholds, answers, lambda split, value: stops(scored[split], value), kind)


def static_ensemble(profiles: Profiles, members: list[int]) -> Curve:
    """All members to the last gate: one point."""
    answers = {}
    for split, profile in profiles.items():
        mean = profile.probabilities[members, :, -1].astype(np.float64).mean(axis=0)
        right = (mean.argmax(axis=-1) == profile.labels)[:, None]
        macs, seconds = profile.gate_macs[members].sum(axis=1), profile.gate_s[members].sum(axis=1)
        spent = (macs.sum(), seconds.sum(), macs.max(), seconds.max())
        answers[split] = Answers(
            right, {metric: np.full(right.shape, float(x)) for metric, x in zip(METRICS, spent, strict=True)}
        )
    samples = {split: len(profile) for split, profile in profiles.items()}
    return Curve(
        "static ensemble", np.zeros(1), answers, lambda split, _: np.zeros(samples[split], np.int64), "static"
    )
