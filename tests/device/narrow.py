"""A way to a server on which bytes wait for those before them, as on a narrow link: gRPC's pings too."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from typing import Self


class Narrow:
    """`with Narrow(server) as way`: `way.address` stands for the server; `way.bytes_per_s` may change, and is no limit
    at first."""

    def __init__(self, server: str) -> None:
        self.bytes_per_s = math.inf
        self.address = ""
        host, port = server.rsplit(":", 1)
        self._server = host, int(port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._listening = self._loop.run_until_complete(asyncio.start_server(self._join, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._listening.close()
        carrying = asyncio.all_tasks() - {asyncio.current_task()}
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Where it is cancelled asyncio would write about it.
        with suppress(asyncio.CancelledError):
            inward, onward = await asyncio.open_connection(*self._server)
            await asyncio.gather(self._carry(reader, onward), self._carry(inward, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                while data := await reader.read(64):
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                    writer.write(data)
        finally:
            writer.close()
