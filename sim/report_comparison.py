"""A live run against a virtual one, as rows of the report's table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["comparison_rows"]


def comparison_rows(comparison: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows of live against virtual: metric -> (live, virtual, difference, within bound)."""
    rows = []
    for metric, (live, virtual, difference, within) in comparison.items():
        show = _shown_as(metric)
        # `policy: metric`; the policy's name stays as it is.
        *whose, what = metric.rsplit(": ", 1)
        rows.append(
            {
                "metric": ": ".join([*whose, what.removesuffix("_s").replace("_", " ")]),
                "live": show(live),
                "virtual": show(virtual),
                "difference": show(difference),
                "within": None if within is None else bool(within),
            }
        )
    return rows


def _shown_as(metric: str) -> Any:
    def show(value: Any) -> str:
        if isinstance(value, str):
            return value
        if value is None or not math.isfinite(value):
            return "–"
        if metric.endswith("_s"):
            return f"{1e3 * value:,.1f} ms"
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"

    return show
