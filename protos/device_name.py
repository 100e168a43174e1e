"""Which device a call comes from, as its metadata say."""

from __future__ import annotations

from typing import Any

import grpc

__all__ = ["DEVICE_KEY", "device_name"]

DEVICE_KEY = "splitpoint-device"
"""Metadata key that names the device to the emulator."""


_LONGEST = 64


def device_name(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """What the caller calls itself, which may be anything, its first 64 characters; "" where it does not."""
    for key, value in context.invocation_metadata() or ():
        if key == DEVICE_KEY and isinstance(value, str):
            # Python reads no number of more than 4 300 digits.
            return value[:_LONGEST]
    return ""
