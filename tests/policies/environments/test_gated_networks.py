"""Environments reckon with one head for every keep: networks with gates are refused, not played wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from splitpoint.errors import UsageError
from splitpoint.models.profile import Profile
from splitpoint.policies.environments.actions import Actions

from .conftest import config


def test_a_network_with_gates_is_refused(profile: Profile) -> None:
    gated = replace(profile, card=profile.card.model_copy(update={"gates": True}))
    with pytest.raises(UsageError, match="gates"):
        Actions(config(), gated)
