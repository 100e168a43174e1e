"""Policies in a user's own Python file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError
from ..models.profile import Profile
from ..policies.deployment import Deployment
from ..policies.policy import Policy
from .policy_config import CustomPolicy

__all__ = ["own_factory", "own_policy"]


def own_factory(config: CustomPolicy) -> Callable[..., Policy]:
    """The maker in the user's file. Raises ConfigError that names policy and file."""
    path = Path(config.path)
    if not path.is_file():
        raise ConfigError(f"policy '{config.name}': there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"splitpoint_custom_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"policy '{config.name}': {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for what a file's annotations mean
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _broken(config, error) from error
    factory = getattr(module, config.factory, None)
    if not callable(factory):
        raise ConfigError(f"policy '{config.name}': {path} has no function or class '{config.factory}'")
    made: Callable[..., Policy] = factory
    return made


def own_policy(
    config: CustomPolicy, factory: Callable[..., Policy], deployment: Deployment, calibration: Profile
) -> Policy:
    """What the maker makes for one device. ConfigError that names policy and file where it raises."""
    try:
        return factory(deployment, calibration, **config.options)
    except (Exception, SystemExit) as error:
        raise _broken(config, error) from error


def _broken(config: CustomPolicy, error: BaseException) -> ConfigError:
    said = " ".join(str(error).split())
    return ConfigError(f"policy '{config.name}': {config.path}: {type(error).__name__}: {said}")
