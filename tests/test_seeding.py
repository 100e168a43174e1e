"""Keyed draws: the same at an index in whatever order they are asked for, and never all in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np

from splitpoint.seeding import Uniforms, generator


def test_draws_by_index_are_those_of_one_generator_in_any_order() -> None:
    expected = generator(7, "test", 3).random(5000)
    draws = Uniforms(7, "test", 3)
    order = np.random.default_rng(0).permutation(5000)
    assert [draws[index] for index in order.tolist()] == expected[order].tolist()


def test_another_seed_component_or_index_draws_anew() -> None:
    keys = [
        (7, "test", 3),
        (8, "test", 3),
        (7, "tests", 3),
        (7, "test", 4),
        (7, "test"),
        (7 + 2**32, "test", 3),
    ]
    assert len({Uniforms(*key)[0] for key in keys}) == len(keys)


def test_what_was_drawn_long_ago_is_not_kept() -> None:
    draws = Uniforms(7, "test")
    draws[0]
    tracemalloc.start()
    try:
        for index in range(0, 1_000_000, 512):
            draws[index]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000
