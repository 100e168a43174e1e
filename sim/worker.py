"""One device process of a live run: told a policy, then the epoch, in lines of JSON, it tells its records."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from ..channel.build import build_link
from ..channel.medium_config import build_medium, build_report
from ..channel.report import Modem
from ..clock import Clock
from ..codec.tokens import TokenCodec
from ..device.connection import Agreement, agreement
from ..device.encoder import Encoder
from ..device.head import Head, advanced
from ..device.load import load_head
from ..device.realtime_batch import BatchDevice
from ..device.session import Session
from ..errors import RemoteError, SplitpointError
from ..models.store import codec_arrays
from ..protos.client import ServiceClient, TimedOut
from .policy_config import PolicyConfig
from .records import Record, record
from .scenario import Scenario
from .setup import Setup

__all__ = ["work"]

_POLICY: TypeAdapter[Any] = TypeAdapter(PolicyConfig)
_WARM_UPS = 3
_ASKED = 30


def work(scenario: Path, inputs: Path, index: int, server: str, head: str) -> None:
    """Serve one policy after another, as standard input says, until it closes.

    inputs  the runner's images, uint8 (N, H, W, C) as npy: drawing or decoding them is work for one process
    """
    # Written by the runner from a scenario that is already checked.
    setup = Setup(Scenario.model_validate_json(scenario.read_text(encoding="utf-8")))
    worker = _Worker(setup, np.load(inputs), index, head)
    asyncio.run(worker.run(server))


class _Worker:
    def __init__(self, setup: Setup, images: np.ndarray, index: int, head: str) -> None:
        self._setup = setup
        self._index = index
        self._images = images
        self._head: Head = load_head(setup.model_path, head)
        card = setup.card
        codec = TokenCodec(codec_arrays(setup.model_path), dim=card.dim, max_tokens=card.patch_tokens + 1)
        whole = setup.scenario.quorum is not None
        self._encoder = Encoder(
            card, codec, setup.scenario.coder, image_format=setup.scenario.image_format, whole_input=whole
        )
        self._tables_crc = codec.tables_crc
        self._session: Session
        for _ in range(_WARM_UPS):
            advanced(self._head, self._images[0], None, card.depth)
        # Policies read the calibration profile once, before time counts.
        for policy in setup.scenario.policies:
            setup.session(policy, index)
        times = setup.arrivals()
        self._arrivals, self._samples = times[index], setup.inputs(len(images), times)[index]
        # The same for the traces that a modem measures.
        if (modem := self._modem()) is not None:
            modem(1.0)

    async def run(self, server: str) -> None:
        loop = asyncio.get_running_loop()
        async with ServiceClient(server, device=self._index) as client:
            coder = self._setup.scenario.coder
            agreed = await self._agreed(client)
            if agreed.coder != coder:
                raise RemoteError(f"{client.address} has not the coder '{coder}', or other code tables")
            _say({"ready": True})
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                try:
                    _say(await self._obey(client, json.loads(line)))
                except SplitpointError as error:
                    _say({"error": str(error)})

    async def _agreed(self, client: ServiceClient) -> Agreement:
        """How to speak to the server; asked again and again, for an outage may swallow the question."""
        known = self._setup.card, self._setup.scenario.coder, self._tables_crc
        for _ in range(_ASKED - 1):
            with suppress(TimedOut):
                return await agreement(client, *known)
        return await agreement(client, *known)

    async def _obey(self, client: ServiceClient, command: dict[str, Any]) -> dict[str, Any]:
        """Make a policy's session, or serve with the one that was made: `epoch` is when the run begins."""
        if "policy" in command:
            policy = _POLICY.validate_python(command["policy"])
            self._session = self._setup.session(policy, self._index, modem=self._modem())
            return {"made": True}
        records = await self._serve(client, self._session, Clock(command["epoch"]))
        return {"records": [_plain(row) for row in records]}

    async def _serve(self, client: ServiceClient, session: Session, clock: Clock) -> list[Record]:
        probe_s = self._setup.scenario.probe_s
        device = BatchDevice(session, self._head, self._encoder, client, clock, paced=True, probe_s=probe_s)
        arrivals, samples = self._arrivals, self._samples
        records: list[Record] = []
        while len(records) < len(arrivals):
            first = len(records)
            await clock.until(arrivals[first])
            last = bisect_right(arrivals, arrivals[first], first)
            behind = max(0, bisect_right(arrivals, clock.now()) - last)
            together = [self._images[sample] for sample in samples[first:last]]
            for finished in await device.serve_next(together, arrivals[first], behind):
                request = len(records)
                records.append(record(self._index, request, samples[request], finished))
                _say({"answered": request})
        await device.close()
        return records

    def _modem(self) -> Modem | None:
        """The emulated device's own modem: it hears the link without the emulator, which stands behind it."""
        channel, seed, index = self._setup.scenario.channel_config(), self._setup.scenario.seed, self._index
        if channel.report.every_s is None:
            return None
        link = build_link(channel.link_of(index), seed, index)
        return build_report(channel.report, link, seed, build_medium(channel.uplink)).newest


def _plain(row: Record) -> list[Any]:
    # JSON has no NaN: None stands for it on this pipe.
    return [None if isinstance(value, float) and math.isnan(value) else _number(value) for value in row]


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)
