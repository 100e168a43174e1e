"""The event loop that the Clients of a process share."""

from __future__ import annotations

import asyncio
import threading

from splitpoint.device.background import Background


async def where() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    return asyncio.get_running_loop(), threading.current_thread()


def test_shares_one_after_another_are_of_one_loop_and_no_thread_stays() -> None:
    """grpc.aio may still have something to tell the loop of a client that is closed."""
    loops = set()
    for _ in range(3):
        share = Background()
        loop, thread = share.submit(where()).result()
        share.release()
        share.release()
        loops.add(loop)
        assert not thread.is_alive()
    (loop,) = loops
    assert not loop.is_closed()


def test_what_is_left_over_is_ended_with_the_last_share() -> None:
    ended = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            ended.set()

    async def begin() -> None:
        left.append(asyncio.ensure_future(linger()))
        await asyncio.sleep(0)

    left: list[asyncio.Future[None]] = []
    first, second = Background(), Background()
    first.submit(begin()).result()
    first.release()
    assert not ended.is_set()
    second.release()
    assert ended.is_set()
    assert left[0].cancelled()
