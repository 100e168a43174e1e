"""What the head of the report says of a run."""

from __future__ import annotations

from typing import Any

import pytest

from splitpoint.sim.report_facts import facts, quantity

from .report_data import CARD, scenario


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("round_trip_s", 0.01, "round trip 10 ms"),
        ("bandwidth_hz", 1e6, "bandwidth 1 MHz"),
        ("mean_snr_db", 12.0, "mean SNR 12 dB"),
        ("macs_per_s", 2.5e8, "250 M MAC/s"),
        ("rate_scale", 0.3, "rate scale 0.3"),
        ("interpolate", False, "no interpolate"),
        ("windows", ((3.0, 4.5), (6.0, 7.0)), "3 to 4.5 s, 6 to 7 s"),
    ],
)
def test_configured_values_are_said_with_their_units(name: str, value: Any, words: str) -> None:
    assert quantity(name, value) == words


def test_the_facts_tell_how_payloads_are_coded_where_that_was_chosen() -> None:
    assert "payloads" not in dict(facts(scenario(), "profile", CARD, 0, 100))
    chosen = scenario(coder="ans", image_format="webp:60")
    assert dict(facts(chosen, "profile", CARD, 0, 100))["payloads"] == (
        "planes entropy-coded, raw inputs as webp of quality 60"
    )


def test_the_facts_tell_of_inputs_that_drift() -> None:
    drifting = scenario(data={"hard_share": [[0.0, 0.0], [33.0, 1.0]]})
    assert dict(facts(drifting, "profile", CARD, 0, 100))["data"] == (
        "clutter, evaluation split; hard inputs: 0 % from 0 s, 100 % from 33 s"
    )
