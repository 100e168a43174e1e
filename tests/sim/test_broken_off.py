"""A run that is broken off leaves no task behind, and SIGTERM lets it tidy up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from splitpoint.errors import RemoteError
from splitpoint.sim.broken_off import run_whole, sigterm_unwinds


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


async def _waits(tidied: list[str]) -> None:
    try:
        await asyncio.sleep(60.0)
    finally:
        tidied.append("task")


async def _breaks(tidied: list[str], number: int | None) -> None:
    asyncio.get_running_loop().call_later(0.01, _end, number)
    await asyncio.gather(_waits(tidied), _waits(tidied), _fails(number))


async def _fails(number: int | None) -> None:
    await asyncio.sleep(0.02 if number is None else 60.0)
    raise RemoteError("gone")


def _end(number: int | None) -> None:
    if number is not None:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (None, RemoteError)],
)
def test_nothing_is_left_of_what_is_broken_off(
    loop: asyncio.AbstractEventLoop, number: int | None, raised: type[BaseException]
) -> None:
    tidied: list[str] = []
    with sigterm_unwinds(), pytest.raises(raised) as stopped:
        run_whole(loop, _breaks(tidied, number))
    assert tidied == ["task", "task"]
    assert asyncio.all_tasks(loop) == set()
    if isinstance(stopped.value, SystemExit):
        assert stopped.value.code == 143


def test_a_result_comes_back_and_sigterm_is_as_it_was(loop: asyncio.AbstractEventLoop) -> None:
    async def answer() -> int:
        return 42

    before = signal.getsignal(signal.SIGTERM)
    with sigterm_unwinds():
        assert run_whole(loop, answer()) == 42
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
