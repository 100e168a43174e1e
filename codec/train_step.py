"""Messages of split learning: float16 arrays in and out, the scale of gradients, and the CRC.

Activations travel as they are, clipped to float16's range. A gradient's values lie far below it, so they are
multiplied by the power of two that brings the largest to 2**12 and sent with that factor.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from ..protos import splitpoint_pb2 as pb
from .errors import PayloadError
from .halves import half_bytes, read_halves
from .requests import check_crc

__all__ = [
    "check_train_crc",
    "gradient_bytes",
    "read_classes",
    "read_gradient",
    "train_crc",
]

_LARGEST_EXPONENT = 12
_MOST_SCALE = 2.0**60


def gradient_bytes(values: np.ndarray) -> tuple[bytes, float]:
    """(float16 bytes, scale): what was sent is values * scale, scale a power of two."""
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        raise PayloadError("gradient", "must be finite")
    scale = 1.0
    if largest > 0.0:
        scale = min(2.0 ** (_LARGEST_EXPONENT - math.frexp(largest)[1]), _MOST_SCALE)
    return half_bytes(values * np.float32(scale)), scale


def read_gradient(field: str, data: bytes, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """The gradient that `gradient_bytes` sent, float32 of `shape`, finite."""
    if not (math.isfinite(scale) and 0.0 < scale <= _MOST_SCALE):
        raise PayloadError("gradient_scale", f"must be in (0, 2**60], not {scale:g}")
    with np.errstate(over="ignore"):
        values: np.ndarray = read_halves(field, data, shape) / np.float32(scale)
    if not np.isfinite(values).all():
        raise PayloadError("gradient_scale", f"gives values that are not finite: {scale:g}")
    return values


def read_classes(data: bytes, rows: int, classes: int) -> np.ndarray:
    """int64 (rows,) class of each row, each below `classes`."""
    if len(data) != 2 * rows:
        raise PayloadError("classes", f"must have {2 * rows} bytes, not {len(data)}")
    found = np.frombuffer(data, "<u2").astype(np.int64)
    if found.size and int(found.max()) >= classes:
        raise PayloadError("classes", f"must be below {classes}, not {int(found.max())}")
    return found


def train_crc(request: pb.TrainStepRequest) -> int:
    """CRC-32 of the request's arrays, in the order that the protocol names."""
    crc = 0
    for data in (
        request.activations,
        request.labels,
        request.logits_gradient,
        request.indices,
        request.classes,
    ):
        crc = zlib.crc32(data, crc)
    return crc


def check_train_crc(request: pb.TrainStepRequest) -> None:
    """Raise PayloadError (field `payload_crc`) unless the CRC is there and right."""
    check_crc(request, train_crc(request))
