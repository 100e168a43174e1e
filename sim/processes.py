"""The real processes of a live run: started, spoken to in lines of JSON, and ended again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ..errors import RemoteError

__all__ = ["Process"]

_START_S = 60.0
_LINE_BYTES = 64 << 20


class Process:
    """One child process. Its standard error goes to a log file, its standard output is read by lines.

    Compute is kept to one thread a process: several at once on few cores would wait for each other.
    """

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.command = [sys.executable, "-m", "splitpoint", *arguments]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                limit=_LINE_BYTES,
            )

    async def line(self, timeout_s: float | None = None) -> str:
        """The next line of its output. Raises RemoteError when it ends or stays silent instead."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            text = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise RemoteError(f"{self.name} said nothing for {timeout_s:g} s: see {self._log}") from None
        if not text:
            raise self._end(await self._process.wait())
        return text.decode().rstrip("\n")

    async def address(self) -> str:
        """What it listens on, from its first line `listening on HOST:PORT`."""
        line = await self.line(_START_S)
        return line.removeprefix("listening on ").strip()

    async def message(self, timeout_s: float | None = _START_S) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.line(timeout_s))
        return message

    async def tell(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(message) + "\n").encode())
        await self._process.stdin.drain()

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def check(self) -> None:
        """Raises RemoteError where it has ended, as nobody asked it to."""
        if self._process is not None and self._process.returncode is not None:
            raise self._end(self._process.returncode)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Ask it to end, wait, and end it."""
        if self._process is None or self._process.returncode is not None:
            return
        # A frozen process does not hear that it should end.
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _end(self, status: int) -> RemoteError:
        return RemoteError(f"{self.name} ended with status {status}: {self._last_words()}")

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:300] if lines else f"no message; its log is {self._log}"
