"""QUEST's pick against random ones and its rivals, by the accuracy of the quorum at equal mean MACs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from curves import Curve, at_accuracy, at_cost
from squad_curves import Profiles, quorum_curve, static_ensemble

from splitpoint.models.quest import pick
from splitpoint.policies.quorum import QuorumRule
from splitpoint.seeding import generator


def picks_compared(
    profiles: Profiles, pool: list[str], size: int, wanted: int, loss: float
) -> dict[str, Any]:
    """QUEST's pick against at most `wanted` others of its size, at equal mean MACs.

    At the MACs of QUEST's cheapest point within `loss` of its static ensemble (calibration split), and at the quartiles
    of what its points cost. A pick that cannot be so cheap has no answer there, and counts as below.
    """
    calibration = profiles["calibration"]
    methods = {
        method: pick(calibration, size, method, among=pool).learners
        for method in ("quest", "greedy", "accuracy")
    }
    methods["quest, no diversity"] = pick(calibration, size, among=pool, diversity=0.0).learners
    everything = list(combinations(range(len(pool)), size))
    places = generator(0, "random-picks", size).permutation(len(everything))
    others = []
    for place in places.tolist():
        names = [pool[index] for index in everything[place]]
        cost = {name: int(calibration.gate_macs[calibration.learner(name)].sum()) for name in names}
        ordered = tuple(sorted(names, key=lambda name: cost[name]))
        if set(ordered) != set(methods["quest"]):
            others.append(ordered)
    others = others[:wanted]

    def curve(names: tuple[str, ...]) -> Curve:
        members = [calibration.learner(name) for name in names]
        return quorum_curve("+".join(names), profiles, members, QuorumRule())

    quest = curve(methods["quest"])
    target = (
        static_ensemble(profiles, [calibration.learner(name) for name in methods["quest"]]).accuracy[0] - loss
    )
    near = at_accuracy(quest, "macs", float(target))
    costs = np.quantile(quest.mean_cost("macs")[quest.hull("macs")], [0.25, 0.5, 0.75]).tolist()
    costs.insert(0, costs[-1] if near is None else float(near.cost("macs", "calibration").mean()))

    def at_costs(one: Curve) -> list[float | None]:
        found = [at_cost(one, "macs", cost) for cost in costs]
        return [None if mix is None else mix.accuracy() for mix in found]

    theirs = [at_costs(curve(names)) for names in others]
    own = at_costs(quest)

    def percentile(place: int) -> float:
        ours = own[place]
        assert ours is not None
        values = [row[place] for row in theirs]
        below = [value is None or value < ours for value in values]
        return 100 * float(np.mean(below) + 0.5 * np.mean([value == ours for value in values]))

    return {
        "size": size,
        "macs": costs,
        "picks": {method: list(names) for method, names in methods.items()},
        "accuracy": {method: at_costs(curve(names)) for method, names in methods.items()},
        "random": [
            {"learners": list(names), "accuracy": row} for names, row in zip(others, theirs, strict=True)
        ],
        "too_dear": [sum(row[k] is None for row in theirs) for k in range(len(costs))],
        "percentile": [percentile(place) for place in range(len(costs))],
    }
