"""The live engine: real device processes, a real channel emulator and a real server, over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..codec.entropy import tables_crc
from ..device.connection import agreement
from ..errors import RemoteError
from ..models.store import codec_arrays
from ..protos.client import ServiceClient
from .broken_off import run_whole
from .inputs import load_inputs
from .live_servers import LiveServers
from .policy_config import PolicyConfig
from .processes import Process
from .records import Record, columns_of, table
from .sections import Fault
from .setup import Setup

__all__ = ["LiveEngine"]

_LEAD_S = 0.5
_PATIENCE_S = 60.0
_ANY = "127.0.0.1:0"


class LiveEngine:
    """Starts all processes once; they serve the policies in turn.

    folder    for the logs and processes.json, which names every process, its pid and its command
    server    address of a server that runs already; otherwise one is started
    head      "auto", "torch" or "onnx": what the devices run their blocks with
    progress  called once a request
    """

    def __init__(
        self,
        setup: Setup,
        progress: Callable[[], None] | None = None,
        *,
        folder: Path | None = None,
        server: str | None = None,
        head: str = "auto",
    ) -> None:
        self.setup = setup
        self._inputs = load_inputs(setup)
        self.labels = self._inputs.labels
        self._progress = progress
        self._temporary = tempfile.TemporaryDirectory(prefix="splitpoint-") if folder is None else None
        self._folder = Path(self._temporary.name) if self._temporary else folder or Path()
        self._head = head
        self._given = server
        self._servers = None if server else LiveServers(setup, self._folder, self._write_processes)
        self._emulator: Process | None = None
        self._emulator_address = ""
        self._devices: list[Process] = []
        self.events: list[tuple[str, float]] = []
        """What befell the server in the newest run: "kill", "freeze", "thaw", "drain" or "ready", and when in it."""
        self._loop = asyncio.new_event_loop()
        try:
            run_whole(self._loop, self._start())
        except BaseException:
            self.close()
            raise

    def run(self, policy: PolicyConfig, faults: Sequence[Fault] | None = None) -> dict[str, np.ndarray]:
        """One policy over all requests; `faults` instead of the scenario's, if given."""
        chosen = self.setup.scenario.faults if faults is None else faults
        records = run_whole(self._loop, self._run(policy, chosen))
        return table(columns_of(records), self.labels, self.setup.scenario.deadline_s)

    def close(self) -> None:
        """End every process that was started here."""
        run_whole(self._loop, self._stop())
        self._loop.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _start(self) -> None:
        scenario = self.setup.scenario
        folder = self._folder
        (folder / "scenario.json").write_text(scenario.model_dump_json(), encoding="utf-8")
        if self._servers is None:
            await self._admit()
        else:
            await self._servers.start()
        (folder / "channel.json").write_text(scenario.channel_config().model_dump_json(), encoding="utf-8")
        self._emulator = Process(
            "the channel emulator",
            [
                "channel",
                *("--config", str(folder / "channel.json")),
                *("--seed", str(scenario.seed)),
                *("--upstream", self._server_address),
                *("--listen", _ANY),
            ],
            folder / "channel.log",
        )
        await self._emulator.start()
        self._emulator_address = await self._emulator.address()
        inputs = folder / "inputs.npy"
        np.save(inputs, self._inputs.images)
        for index in range(len(self.setup.groups)):
            arguments = [
                "device-worker",
                *("--scenario", str(folder / "scenario.json")),
                *("--inputs", str(inputs)),
                *("--index", str(index)),
                *("--server", self._emulator_address),
                *("--head", self._head),
            ]
            device = Process(f"device {index}", arguments, folder / f"device-{index}.log")
            self._devices.append(device)
            await device.start()
        for device in self._devices:
            await device.message(_PATIENCE_S)
        inputs.unlink()
        self._write_processes()

    async def _admit(self) -> None:
        """Whether the given server is there and fits: its devices would only know of the emulator before it."""
        path = self.setup.model_path
        async with ServiceClient(self._server_address) as client:
            await agreement(
                client, self.setup.card, self.setup.scenario.coder, tables_crc(codec_arrays(path))
            )

    def _write_processes(self) -> None:
        known = [*self._without_devices(), *self._devices]
        listing = [{"name": p.name, "pid": p.pid, "command": p.command} for p in known]
        about = {"server": self._server_address, "emulator": self._emulator_address, "processes": listing}
        (self._folder / "processes.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def _without_devices(self) -> list[Process]:
        servers = [] if self._servers is None else self._servers.processes
        return servers if self._emulator is None else [*servers, self._emulator]

    @property
    def _server_address(self) -> str:
        return self._given or (self._servers.address if self._servers else "")

    async def _run(self, policy: PolicyConfig, to_come: Sequence[Fault]) -> list[Record]:
        from ..channel.emulator_process import reset_emulator

        self.events.clear()
        # What a policy is made of may take long to read, in many processes longer: only then time counts.
        await self._tell({"policy": policy.model_dump(mode="json")})
        made = [await device.message(None) for device in self._devices]
        for device, message in zip(self._devices, made, strict=True):
            _checked(device, message)
        epoch = time.time() + _LEAD_S
        await reset_emulator(self._emulator_address, epoch)
        await self._tell({"epoch": epoch})
        ended = asyncio.Event()
        faults = [self._fault(fault, epoch, ended) for fault in to_come]
        following = asyncio.create_task(self._follow_all(ended))
        await asyncio.gather(following, *faults)
        # Without them devices answer alone: nothing in the records tells that from a bad link.
        for process in self._without_devices():
            process.check()
        return [record for part in following.result() for record in part]

    async def _tell(self, message: dict[str, Any]) -> None:
        for device in self._devices:
            await device.tell(message)

    async def _follow_all(self, ended: asyncio.Event) -> list[list[Record]]:
        try:
            return await asyncio.gather(*(self._follow(device) for device in self._devices))
        finally:
            ended.set()

    async def _follow(self, device: Process) -> list[Record]:
        while True:
            message = _checked(device, await device.message(None))
            if "records" in message:
                return [_record(row) for row in message["records"]]
            if self._progress is not None:
                self._progress()

    async def _fault(self, fault: Fault, epoch: float, ended: asyncio.Event) -> None:
        """Do it to the server; once begun it is seen to its end, so that the next policy finds a server."""
        if self._servers is None:
            raise RemoteError("faults need a server that the run itself starts")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), max(0.0, epoch + fault.at_s - time.time()))
            return

        def note(event: str) -> None:
            self.events.append((event, time.time() - epoch))

        await self._servers.fault(fault, time.time() + fault.for_s, note)

    async def _stop(self) -> None:
        known: list[Any] = [*self._devices, self._emulator, self._servers]
        for process in known:
            if process is not None:
                await process.stop()


def _checked(device: Process, message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise RemoteError(f"{device.name}: {message['error']}")
    return message


def _record(row: list[Any]) -> Record:
    # JSON has no NaN: None stands for it on the pipe.
    return Record._make(math.nan if value is None else value for value in row)
