"""What a learned policy remembers of its own requests, as numbers beside the Observation's features.

For N devices or copies at once: training and boards use the same code, a board with N = 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEMORY", "Memory", "price_features"]

MEMORY = ("unsent", "fallen_back", "doubt")
"""log2 of 1 + local answers since something was sent; running means of degraded answers and of 1 - margin."""

_NEW = 0.2
_PRICE_SCALE = 0.02


class Memory:
    """`rows()` is (N, len(MEMORY)) float32; `learn` takes what each of the N requests came to, arrays (N,)."""

    def __init__(self, count: int) -> None:
        self._unsent = np.zeros(count)
        self._fallen_back = np.zeros(count)
        self._doubt = np.zeros(count)

    def learn(
        self, offloaded: NDArray[np.bool_], degraded: NDArray[np.bool_], margin: NDArray[np.floating]
    ) -> None:
        self._unsent = np.where(offloaded, 0.0, self._unsent + 1.0)
        self._fallen_back += _NEW * (degraded - self._fallen_back)
        self._doubt += _NEW * (1.0 - margin - self._doubt)

    def rows(self) -> NDArray[np.float32]:
        return np.stack([np.log2(1.0 + self._unsent), self._fallen_back, self._doubt], axis=1).astype(
            np.float32
        )


def price_features(prices: NDArray[np.float64]) -> NDArray[np.float32]:
    """Prices of the budgets as numbers of order one: log2(1 + price / 0.02) / 4, same shape."""
    return (0.25 * np.log2(1.0 + prices / _PRICE_SCALE)).astype(np.float32)
