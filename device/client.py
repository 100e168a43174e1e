"""The client as a library: `Client(address, model).infer(image)`.

Needs the base install only when `model` is a folder made by `splitpoint export`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from ..clock import Clock
from ..codec.image import LOSSLESS
from ..codec.tokens import TokenCodec
from ..errors import RemoteError, SplitpointError, UsageError
from ..models.card import ModelCard
from ..models.store import codec_arrays
from ..policies.belief import EXPLORE_AFTER
from ..policies.decision import Decision
from ..policies.guard import GuardedPolicy
from ..policies.policy import Policy
from ..policies.service_time import times_at_keep
from ..policies.static import Static
from ..protos.client import ServiceClient, Timeouts, Tls
from .agent import Agent
from .background import Background
from .connection import agreement
from .default_policy import POWER, default_policy
from .encoder import Encoder
from .head import Head
from .load import codec_of, load_head
from .modem import ReadModem, own_modem
from .pixels import ImageLike, as_pixels
from .realtime_batch import BatchDevice
from .remote_policy import RemotePolicy
from .result import Result, result_of
from .session import Session
from .warm_up import measured_block_s

__all__ = ["Client"]

logger = logging.getLogger(__name__)

_COHERENCE_S = 0.5
_PATIENCE = 0.5
"""Part of the deadline that a policy may take to decide."""
_EXPLORE_BESIDE_MODEM = 8 * EXPLORE_AFTER
"""Local answers before the link is tried again: a modem says nothing of the way beyond the radio."""
_ASK = 0.25
"""Part of the deadline that a server which decides is waited for."""


class Client:
    """Answers images here where the network's exits are sure, else by the server; here again where that is lost.

    address     the server, or the emulator before it: "host:port"
    model       an exported folder, or a model's name or file (these need torch)
    policy      a Decision, a policy as it stands (it is not reset), "remote": the server decides, and where it does not
                in time all is local, or None: greedy from the model's calibration profile, where it has one, else a
                split at half depth
    deadline_s  relative, for each image; the answer comes by then even if the server does not
    device      this device's number on the emulator
    coder       "packed", or "ans": entropy coding where both sides have it
    image_format  how the raw input goes where it is sent: "png", lossless, "webp:QUALITY" or "jpeg:QUALITY"
    tls         None for plain text
    probe_s     how often a server that is out of reach is looked for
    modem       reads (SNR in dB, rate in bit/s) off the board's modem, None where that hears nothing; asked at every
                request on a thread of its own. Without it the link is known by replies alone. The rate is to be what
                data go at; what the way beyond adds is learned from replies

    Use it as a context manager, or `close` it. One image at a time is in work: calls from several threads wait in
    line. A server that cannot be reached is no error: the client answers locally, looks for it all the time, and
    goes over to it when it comes.

    Raises RemoteError where the server is there and does not fit (another protocol version, other weights, a
    certificate that is not trusted), DataError and UsageError for a model or policy that is none.
    """

    def __init__(
        self,
        address: str,
        model: str | Path = "clutter",
        *,
        policy: Policy | Decision | Literal["remote"] | None = None,
        deadline_s: float = 0.5,
        device: int = 0,
        coder: str = "packed",
        image_format: str = LOSSLESS,
        tls: Tls | None = None,
        probe_s: float = 0.25,
        modem: ReadModem | None = None,
    ) -> None:
        for name, seconds in (("deadline_s", deadline_s), ("probe_s", probe_s)):
            if not 0.0 < seconds < math.inf:
                raise UsageError(f"{name} must be finite and above 0, not {seconds!r}")
        self._head: Head = load_head(model)
        self.card: ModelCard = self._head.card
        card = self.card
        codec = TokenCodec(codec_arrays(codec_of(model)), dim=card.dim, max_tokens=card.patch_tokens + 1)
        block_s = measured_block_s(self._head)
        slack_s = max(0.01, 0.05 * deadline_s)
        # What somebody else wrote may never return: it is waited for on a thread of its own.
        watched = not isinstance(policy, Decision | str | None)
        told = partial(logger.warning, "the policy %s") if watched else None
        if isinstance(policy, Decision):
            policy.check(card)
            policy = Static(policy)
        self._remote: RemotePolicy | None = None
        if isinstance(policy, str):
            if policy != "remote":
                raise UsageError(f"policy must be 'remote', a Decision or a policy, not '{policy}'")
            policy = self._remote = RemotePolicy(card, str(device), _ASK * deadline_s)
        explore_after = EXPLORE_AFTER if modem is None else _EXPLORE_BESIDE_MODEM
        chosen = policy
        if chosen is None:
            chosen = default_policy(model, card, block_s, slack_s, deadline_s, explore_after)
        self._deadline_s = deadline_s
        self._session = Session(
            Agent(card.exits, block_s, slack_s, partial(times_at_keep, card, block_s)),
            GuardedPolicy(
                chosen,
                card,
                Decision(card.depth),
                _PATIENCE * deadline_s,
                watched=watched,
                told=told,
            ),
            POWER,
            deadline_s=deadline_s,
            coherence_s=_COHERENCE_S,
            battery_j=math.inf,
            modem=None if modem is None else own_modem(modem, 0.5 * slack_s),
        )
        self._clock = Clock()
        self._coder, self._codec, self._image_format = coder, codec, image_format
        Encoder(card, codec, coder, image_format=image_format)  # what it refuses is refused at once
        self._waiting = 0
        self._closed = False
        self._closing = threading.Lock()  # what is submitted comes before the closing, or not at all
        self._service: ServiceClient
        self._device: BatchDevice
        self._turn: asyncio.Lock
        self._background = Background()
        self._head_thread = ThreadPoolExecutor(1, "splitpoint-head")  # none before it has work
        try:
            self._background.submit(self._open(address, device, tls, probe_s)).result()
        except BaseException:
            self.close()
            raise

    def infer(self, image: ImageLike) -> Result:
        """Answer one image: uint8 (H, W[, C]), a Pillow image or a path. DataError if it is none."""
        return self._submit([image]).result()[0]

    async def infer_async(self, image: ImageLike) -> Result:
        """The same for callers that have an event loop."""
        return (await asyncio.wrap_future(self._submit([image])))[0]

    def infer_batch(self, images: Sequence[ImageLike]) -> list[Result]:
        """Answer images that belong together, in their order.

        Where the policy's Decision lets them be merged (`merge` below 1), alike ones share one answer of the server;
        else this is `infer` of each. The deadline counts from the call for all.
        """
        return self._submit(images).result()

    @property
    def link_up(self) -> bool:
        """Whether the server is taken to be there, and the modem to hear the network."""
        return self._session.may_send

    @property
    def last_error(self) -> SplitpointError | None:
        """Why the server did not answer last; None while all is well."""
        return self._device.last_error

    def close(self) -> None:
        """Close the connection; calls that still wait are answered first."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            shut = self._background.submit(self._shut())
        try:
            shut.result()
        finally:
            self._background.release()
            self._head_thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, images: Sequence[ImageLike]) -> Future[list[Result]]:
        arrival_s = self._clock.now()
        pixels = [as_pixels(image, self.card) for image in images]
        with self._closing:
            if self._closed:
                raise SplitpointError("this client is closed")
            return self._background.submit(self._answer(pixels, arrival_s))

    async def _answer(self, pixels: list[np.ndarray], arrival_s: float) -> list[Result]:
        self._waiting += len(pixels)
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= len(pixels)
        try:
            finished = await self._device.serve_batch(pixels, arrival_s, self._waiting)
        finally:
            self._turn.release()
        return [result_of(one, self.card, self._deadline_s) for one in finished]

    async def _open(self, address: str, device: int, tls: Tls | None, probe_s: float) -> None:
        self._turn = asyncio.Lock()
        # A ping waits behind what was sent before it: where that may take longer, its silence tells nothing. And a link
        # that is fast enough for the deadline must not be too slow to be found.
        timeouts, deadline_s = Timeouts(), self._deadline_s
        health_s = min(timeouts.call, max(timeouts.health, deadline_s))
        timeouts = replace(timeouts, ping=max(timeouts.ping, deadline_s), health=health_s)
        self._service = ServiceClient(address, device=device, timeouts=timeouts, tls=tls)
        self._device = BatchDevice(
            self._session,
            self._head,
            Encoder(self.card, self._codec, image_format=self._image_format),
            self._service,
            self._clock,
            probe_s=probe_s,
            admit=self._admit,
            remote=self._remote,
            aside=self._aside,
        )
        await self._device.connect()

    def _aside(self) -> Executor | None:
        return None if self._background.alone else self._head_thread

    async def _admit(self) -> None:
        agreed = await agreement(self._service, self.card, self._coder, self._codec.tables_crc)
        if self._remote is not None and not agreed.policy:
            raise RemoteError(
                f"{self._service.address} does not decide for boards: start it with serve --policy"
            )
        self._device.encoder = Encoder(
            self.card,
            self._codec,
            agreed.coder,
            image_format=self._image_format,
            whole_input=agreed.whole_input,
        )

    async def _shut(self) -> None:
        if hasattr(self, "_device"):
            async with self._turn:
                await self._device.close()
        if hasattr(self, "_service"):
            await self._service.close()
