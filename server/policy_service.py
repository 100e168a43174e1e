"""The gRPC service `PolicyService`: checks what boards ask and tell, and has the desk's policies answer."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import grpc

from ..errors import DataError
from ..policies.policy import Outcome
from ..policies.wire import decision_message, read_observation, read_outcome
from ..protos import splitpoint_pb2 as pb
from ..protos.device_name import device_name
from ..protos.options import POLICY_SERVICE
from .deciding import PolicyDesk
from .refusals import Rejected, abort, absent, invalid, shutting_down
from .validation import check_model, check_version, parse

__all__ = ["PolicyService"]

_MOST_OUTCOMES = 256
"""In one message."""

_MOST_BYTES = 1 << 18
"""Of a message; that many outcomes are an eighth of it. Looked at before it is parsed, which takes forty times as much
memory where outcomes are empty."""

_LONGEST_NAME = 64
_MOST_REQUESTS = 1 << 62

_M = TypeVar("_M", pb.DecideRequest, pb.LearnRequest)

Context = grpc.aio.ServicerContext[bytes, bytes]


class _Told(NamedTuple):
    device: str
    session: str
    outcomes: list[Outcome]
    first: int


class PolicyService:
    """Decide and Learn; bytes in, bytes out. desk: None refuses both."""

    def __init__(self, desk: PolicyDesk | None) -> None:
        self._desk = desk
        self._draining = False

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers."""
        unary = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            POLICY_SERVICE, {"Decide": unary(self._decide), "Learn": unary(self._learn)}
        )

    def drain(self) -> None:
        """Decide no more: a board whose server goes away decides for itself."""
        self._draining = True

    async def _decide(self, data: bytes, context: Context) -> bytes:
        try:
            desk = self._welcome("Decide")
            request = _parse(pb.DecideRequest, data)
            told = self._check(desk, request, context)
            if not request.HasField("observation"):
                raise invalid("observation: is missing")
            observation = _read(read_observation, request.observation)
            decided = await desk.tell(*told, observation)
        except Rejected as refusal:
            await abort(context, refusal)
        assert decided.decision is not None
        reply = pb.DecideReply(decision=decision_message(decided.decision), replaced=decided.replaced)
        return reply.SerializeToString()

    async def _learn(self, data: bytes, context: Context) -> bytes:
        try:
            desk = self._welcome("Learn")
            decided = await desk.tell(*self._check(desk, _parse(pb.LearnRequest, data), context))
        except Rejected as refusal:
            await abort(context, refusal)
        return pb.LearnReply(outcomes=decided.outcomes).SerializeToString()

    def _welcome(self, method: str) -> PolicyDesk:
        if self._desk is None:
            raise absent(method, "serve --policy")
        if self._draining:
            raise shutting_down()
        return self._desk

    def _check(
        self, desk: PolicyDesk, request: pb.DecideRequest | pb.LearnRequest, context: Context
    ) -> _Told:
        card = desk.source.card
        check_version(request.protocol_version)
        check_model(request.model_id, card)
        device = request.device or device_name(context) or "0"
        if len(device) > _LONGEST_NAME:
            raise invalid(f"device: must have at most {_LONGEST_NAME} characters, not {len(device)}")
        if not 0 < len(request.session) <= _LONGEST_NAME:
            raise invalid(f"session: must have 1 to {_LONGEST_NAME} characters, not {len(request.session)}")
        if len(request.outcomes) > _MOST_OUTCOMES:
            raise invalid(f"outcomes: must be at most {_MOST_OUTCOMES}, not {len(request.outcomes)}")
        if request.first_outcome > _MOST_REQUESTS:
            raise invalid(f"first_outcome: must be at most {_MOST_REQUESTS}, not {request.first_outcome}")
        outcomes = [
            _read(read_outcome, outcome, card, f"outcomes[{place}]")
            for place, outcome in enumerate(request.outcomes)
        ]
        return _Told(device, request.session, outcomes, request.first_outcome)


def _parse(kind: type[_M], data: bytes) -> _M:
    if len(data) > _MOST_BYTES:
        raise invalid(f"a {kind.__name__}: must have at most {_MOST_BYTES} bytes, not {len(data)}")
    return parse(kind, data)


def _read(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except DataError as error:
        raise invalid(str(error)) from None
