"""The file beside a model that holds its joint source-channel codes: NAME.jscc.safetensors.

It is a file of its own so that training a code does not change the model's id. Its metadata name the network that
the code was trained behind: with another network's weights it is worth nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..whole_file import whole_file

__all__ = ["JOINT", "joint_path", "read_joint", "save_joint"]

JOINT = "jscc."
"""Arrays are named jscc.{cut}.*"""

logger = logging.getLogger(__name__)


def joint_path(model: Path) -> Path:
    """Where the codes of a model file lie."""
    return model.with_name(f"{model.stem}.jscc.safetensors")


def read_joint(path: Path, network_id: str) -> dict[str, NDArray[np.generic]]:
    """The arrays of a file, floats widened to float32; none, and a warning, where they are another network's.

    DataError for a file that is none of these.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"cannot read the joint codes {path}: {error}") from error
    if "network_id" not in about:
        raise DataError(f"{path} holds no joint codes: it does not name its network")
    if about["network_id"] != network_id:
        logger.warning("%s is left aside: it was trained behind other weights; train it anew", path)
        return {}
    return {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in arrays.items()}


def save_joint(
    path: Path, network_id: str, arrays: Mapping[str, NDArray[np.generic]], training: Mapping[str, Any]
) -> None:
    """Write arrays (as float16) and how they were made, whole or not at all."""
    from safetensors.numpy import save_file

    metadata = {"network_id": network_id, "training": json.dumps(training, sort_keys=True)}
    with whole_file(path, "joint codes") as partial:
        save_file({name: array.astype(np.float16) for name, array in arrays.items()}, partial, metadata)
