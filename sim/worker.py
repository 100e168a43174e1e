"""One device process of a live run. It is told policy and epoch in lines of JSON, and tells its records."""

from __future__ import annotations

import asyncio
import json
import sys
from bisect import bisect_right
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..device.realtime import Clock, RealTimeDevice
from .inputs import load_inputs
from .records import record
from .scenario import PolicyConfig, Scenario
from .setup import Setup

__all__ = ["work"]
