"""The server side of a live run: one server, or a coordinator and the processes of its learners."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .processes import Process
from .sections import Fault, ServerConfig
from .setup import Setup

__all__ = ["LiveServers"]

_ANY = "127.0.0.1:0"
_SERVER = ""
"""As a fault names the server itself, or the coordinator in its place."""


class LiveServers:
    """Starts the processes, does faults to them, and ends them.

    folder   for logs and the coordinator's configuration
    changed  called when a process was started again
    """

    def __init__(self, setup: Setup, folder: Path, changed: Callable[[], None]) -> None:
        self._setup = setup
        self._folder = folder
        self._changed = changed
        self._processes: dict[str, Process] = {}
        self._addresses: dict[str, str] = {}

    @property
    def address(self) -> str:
        """Of what the devices ask, through the emulator."""
        return self._addresses[_SERVER]

    @property
    def processes(self) -> list[Process]:
        return list(self._processes.values())

    async def start(self) -> None:
        quorum = self._setup.scenario.quorum
        names = [] if quorum is None else list(quorum.processes)
        for name in names:
            self._processes[name] = self._process(name, _ANY)
            await self._processes[name].start()
        for name in names:
            self._addresses[name] = await self._processes[name].address()
        if quorum is not None:
            self._write_quorum()
        self._processes[_SERVER] = self._process(_SERVER, _ANY)
        await self._processes[_SERVER].start()
        self._addresses[_SERVER] = await self._processes[_SERVER].address()

    async def fault(self, fault: Fault, end: float, note: Callable[[str], None]) -> None:
        """Do it now, and see it to its end at `end`, by time.time(); `note` is told what happens."""
        process = self._processes[fault.process]
        note(fault.kind)
        if fault.kind == "freeze":
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(fault.for_s)
            process.signal(signal.SIGCONT)
            note("thaw")
            return
        process.signal(signal.SIGKILL if fault.kind == "kill" else signal.SIGTERM)
        await process.ended()
        await asyncio.sleep(max(0.0, end - time.time()))
        again = self._processes[fault.process] = self._process(fault.process, self._addresses[fault.process])
        await again.start()
        await again.address()
        note("ready")
        self._changed()

    async def stop(self) -> None:
        for process in self._processes.values():
            await process.stop()

    def _process(self, name: str, listen: str) -> Process:
        scenario = self._setup.scenario
        quorum = scenario.quorum
        if name != _SERVER:
            assert quorum is not None
            files = [self._setup.learner_files[index] for index in quorum.processes[name]]
            learners = [part for file in files for part in ("--learner", file)]
            return self._serving(f"learner process {name}", learners, listen, quorum.server, name)
        if quorum is not None:
            config = ["--quorum", str(self._folder / "quorum.json")]
            return self._serving("the coordinator", config, listen, scenario.server, "server")
        model = ["--model", str(self._setup.model_path)]
        return self._serving("the server", model, listen, scenario.server, "server")

    def _serving(self, name: str, what: list[str], listen: str, config: ServerConfig, log: str) -> Process:
        return Process(
            name,
            [
                "serve",
                *what,
                *("--listen", listen),
                *("--pace-base-s", repr(config.base_s)),
                *("--pace-macs-per-s", repr(config.macs_per_s)),
                *("--max-batch", str(config.max_batch)),
                *("--max-pending", str(config.max_pending)),
            ],
            self._folder / f"{log}.log",
        )

    def _write_quorum(self) -> None:
        quorum = self._setup.scenario.quorum
        assert quorum is not None
        rule = ("alpha", "compare", "statistic", "confidence", "parallel", "order", "patience_s", "probe_s")
        learners: list[dict[str, Any]] = []
        for learner in quorum.learners:
            address = self._addresses.get(learner.place)
            own = {"model": str(self._setup.model_path), "on_device": True}
            learners.append(own if address is None else {"model": learner.name, "address": address})
        about = {
            "model": str(self._setup.model_path),
            "learners": learners,
            **{name: getattr(quorum, name) for name in rule},
        }
        (self._folder / "quorum.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
