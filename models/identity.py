"""What a model file's weights are told apart by: ids made of the arrays themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..codec.entropy import is_table
from .joint_file import JOINT

__all__ = ["CODEC", "model_id", "network_id"]

CODEC = "codec."
"""How the names of the codec's arrays begin in a model file."""


def model_id(tensors: Mapping[str, NDArray[np.generic]]) -> str:
    """First 16 hex digits of SHA-256 over name, dtype, shape and bytes of all tensors, sorted by name.

    The entropy coder's tables are left out: they change bytes, never an answer, and have a CRC of their own.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if not is_table(name)):
        value = np.ascontiguousarray(tensors[name])
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {little.dtype.name} {little.shape} ".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()[:16]


def network_id(tensors: Mapping[str, NDArray[np.generic]]) -> str:
    """As `model_id`, over what blocks and exits compute with: neither codec nor gates."""
    return model_id({k: v for k, v in tensors.items() if not k.startswith((CODEC, JOINT, "gates."))})
