"""Welch's t-test (Welch 1947) in numpy: is the mean of one sample greater than another's, of unequal variances?

    t  = (mean_a - mean_b) / sqrt(var_a / n_a + var_b / n_b)
    df = (var_a / n_a + var_b / n_b)^2 / ((var_a / n_a)^2 / (n_a - 1) + (var_b / n_b)^2 / (n_b - 1))
    p  = P(T > t),   P(|T| > |t|) = I_{df / (df + t^2)}(df / 2, 1/2)

I is the regularised incomplete beta function, by its continued fraction. A board has no scipy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["incomplete_beta", "welch"]

_TINY = 1e-300
_CLOSE = 1e-15
_TERMS = 20_000
_FEW = 16

Array = NDArray[np.float64]


def welch(
    mean_a: ArrayLike, var_a: ArrayLike, n_a: ArrayLike, mean_b: ArrayLike, var_b: ArrayLike, n_b: ArrayLike
) -> Array:
    """p from means, unbiased variances above 0 and sizes (at least 2), arrays of one shape (...)."""
    difference = np.asarray(mean_a, dtype=np.float64) - np.asarray(mean_b, dtype=np.float64)
    size_a, size_b = np.asarray(n_a, dtype=np.float64), np.asarray(n_b, dtype=np.float64)
    share_a = np.asarray(var_a, dtype=np.float64) / size_a
    share_b = np.asarray(var_b, dtype=np.float64) / size_b
    squared = share_a + share_b
    t = difference / np.sqrt(squared)
    # Shares of the sum, so that tiny variances do not underflow when squared.
    part_a, part_b = share_a / squared, share_b / squared
    df = 1.0 / (part_a**2 / (size_a - 1) + part_b**2 / (size_b - 1))
    ratio = np.square(t) / df
    both = incomplete_beta(1.0 / (1.0 + ratio), df / 2, np.full_like(df, 0.5), ratio / (1.0 + ratio))
    return np.where(t > 0, both / 2, 1.0 - both / 2)


def incomplete_beta(x: ArrayLike, a: ArrayLike, b: ArrayLike, y: ArrayLike | None = None) -> Array:
    """I_x(a, b) for x in [0, 1], a, b > 0, arrays of one shape (...); `y` is 1 - x where it is known better.

    Continued fraction of Didonato and Morris (1992) by Lentz's method; each value stops by itself, so that a
    result does not depend on what else is in the array.
    """
    x = np.asarray(x, dtype=np.float64)
    shape = x.shape
    x, a, b = (np.broadcast_to(np.asarray(v, np.float64), shape).ravel() for v in (x, a, b))
    y = 1.0 - x if y is None else np.broadcast_to(np.asarray(y, np.float64), shape).ravel()
    swap = x > (a + 1.0) / (a + b + 2.0)
    x, y = np.where(swap, y, x), np.where(swap, x, y)
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    with np.errstate(divide="ignore"):
        # Each logarithm from whichever of x and y is the smaller, which is the exacter.
        log_x = np.where(x < 0.5, np.log(x), np.log1p(-y))
        log_y = np.where(x < 0.5, np.log1p(-x), np.log(y))
        logs = a * log_x + b * log_y
    front = np.exp(logs + _lgamma(a + b) - _lgamma(a) - _lgamma(b)) / a
    value = front * _fraction(x, a, b)
    return np.where(swap, 1.0 - value, value).reshape(shape)


def _lgamma(values: Array) -> Array:
    return np.array([math.lgamma(value) for value in values.tolist()], dtype=np.float64)


def _fraction(x: Array, a: Array, b: Array) -> Array:
    """The continued fraction of the incomplete beta function, flat arrays (N,)."""
    if x.size < _FEW:
        each = zip(x.tolist(), a.tolist(), b.tolist(), strict=True)
        return np.array([_one_fraction(*case) for case in each], dtype=np.float64)
    out = np.ones_like(x)
    live = np.arange(x.size)
    c = np.ones_like(x)
    d = 1.0 / _kept(1.0 - (a + b) * x / (a + 1.0))
    h = d
    for m in range(1, _TERMS):
        even, odd = _terms(m, x, a, b)
        d = 1.0 / _kept(1.0 + even * d)
        c = _kept(1.0 + even / c)
        h = h * d * c
        d = 1.0 / _kept(1.0 + odd * d)
        c = _kept(1.0 + odd / c)
        step = d * c
        h = h * step
        done = np.abs(step - 1.0) <= _CLOSE
        if done.any():
            out[live[done]] = h[done]
            live = live[~done]
            x, a, b, c, d, h = (values[~done] for values in (x, a, b, c, d, h))
        if not live.size:
            break
    out[live] = h
    return out


def _one_fraction(x: float, a: float, b: float) -> float:
    """The same steps on Python's floats, which are many times faster than arrays of one value."""
    c = 1.0
    d = 1.0 / _kept_one(1.0 - (a + b) * x / (a + 1.0))
    h = d
    for m in range(1, _TERMS):
        even, odd = _terms(m, x, a, b)
        d = 1.0 / _kept_one(1.0 + even * d)
        c = _kept_one(1.0 + even / c)
        h = h * d * c
        d = 1.0 / _kept_one(1.0 + odd * d)
        c = _kept_one(1.0 + odd / c)
        step = d * c
        h = h * step
        if abs(step - 1.0) <= _CLOSE:
            break
    return h


def _terms(m: int, x: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Coefficients 2m and 2m + 1 of the fraction."""
    even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
    odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
    return even, odd


def _kept_one(value: float) -> float:
    return _TINY if abs(value) < _TINY else value


def _kept(values: Array) -> Array:
    """The values, away from zero."""
    return np.where(np.abs(values) < _TINY, _TINY, values)
