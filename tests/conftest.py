"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# Machines are shared: how long one example takes says nothing about the code.
settings.register_profile("explore", deadline=None)
# The same examples each time: a commit that is green stays green. `pytest --hypothesis-profile explore` draws others.
settings.register_profile("splitpoint", deadline=None, derandomize=True)
settings.load_profile("splitpoint")
