"""splitpoint: edge-server split inference with one vision transformer, in simulation and on real boards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .device.client import Client
    from .policies.decision import Decision

__all__ = ["Client", "Decision", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Looked up on first use, so that importing a part does not import them all.
    if name == "Client":
        from .device.client import Client

        return Client
    if name == "Decision":
        from .policies.decision import Decision

        return Decision
    raise AttributeError(f"module 'splitpoint' has no attribute {name!r}")
