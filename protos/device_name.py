"""Which device a call comes from, as its metadata say."""

from __future__ import annotations

from typing import Any

import grpc

__all__ = ["DEVICE_KEY", "device_name"]

DEVICE_KEY = "splitpoint-device"
"""Metadata key that names the device to the emulator."""


def device_name(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """What the caller calls itself, which may be anything; "" where it does not."""
    for key, value in context.invocation_metadata() or ():
        if key == DEVICE_KEY and isinstance(value, str):
            return value
    return ""
