"""What a Decision does to all samples at once is what the agent does with each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from splitpoint.device.agent import Agent
from splitpoint.device.effects import Offload, Reading
from splitpoint.policies.decision import Decision
from splitpoint.policies.outcomes import walk_head


class Margins:
    """As much of a Profile as the walk on the device needs."""

    def __init__(self, margins: np.ndarray, exits: tuple[int, ...]) -> None:
        self.card = SimpleNamespace(exits=exits, depth=exits[-1])
        self._margins = margins

    def __len__(self) -> int:
        return len(self._margins)

    def head(self, keep: float) -> tuple[Any, np.ndarray]:
        return None, self._margins


@settings(max_examples=60)
@given(
    st.integers(0, 2**31),
    st.sampled_from([(2, 4, 6), (1, 3), (3,)]),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.4, 0.8, 2.0]),
    st.sampled_from([-2.0, -0.2, 0.1, 0.5]),
)
def test_the_device_stops_where_the_agent_does(
    seed: int, after: tuple[int, ...], split: int, exit_margin: float, slope: float
) -> None:
    split = min(split, after[-1])
    margins = np.random.default_rng(seed).random((8, len(after))).astype(np.float32)
    # A threshold that single precision cannot tell from the margin, which does not reach it.
    exit_margin = exit_margin or float(np.nextafter(float(margins[0, 0]), 2.0))
    found = walk_head(Margins(margins, after), split, exit_margin, slope)  # type: ignore[arg-type]
    agent = Agent(after, [0.0] * (after[-1] + 1), 0.0)
    for sample, row in enumerate(margins):
        steps = agent.answer(Decision(split, exit_margin=exit_margin, offload_slope=slope), 0.0, 1.0, True)
        effect = next(steps)
        cut, local = 0, True
        while effect is not None:
            if isinstance(effect, Offload):
                cut, local = effect.cut, False
                break
            cut, reading = effect.stop, None
            if cut in after:
                exit = after.index(cut)
                reading = Reading(0, float(row[exit]), exit)
            try:
                effect = steps.send((0.0, reading))
            except StopIteration:
                break
        assert (found.cut[sample], found.local[sample]) == (cut, local)
