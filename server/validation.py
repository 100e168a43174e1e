"""Everything that is checked before a request reaches the network. What does not hold names its field.

The payload's own fields are checked where they are decoded (codec.tokens, codec.symbols, codec.image), in Python
integers and before anything is allocated. Order: from cheap to dear, and the CRC before the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import Message

from ..codec.adc import MOST_GROUPS, group_count
from ..codec.decoding import Decoding
from ..codec.errors import PayloadError
from ..codec.image import decode_image
from ..codec.requests import check_payload_crc, read_exit_state
from ..codec.tokens import TokenCodec
from ..models.card import ModelCard
from ..policies.service_time import next_exit
from ..protos import PROTOCOL_VERSION
from ..protos import splitpoint_pb2 as pb
from .refusals import bad_payload, invalid, unmet
from .work import NOTHING, Sample

__all__ = [
    "Checked",
    "Validator",
    "check_model",
    "check_version",
    "decoded_into",
    "parse",
    "read_deadline",
    "soonest",
]

_SHORTEST_DEADLINE_S = 1e-4
_M = TypeVar("_M", bound=Message)


class Checked(NamedTuple):
    """A request that may run.

    samples     one, or one a group of a merged batch
    group       (cut, tokens): requests of one group can share a batch
    deadline_s  from the receipt, None where the request names none
    decode      gives the samples their values: to be called before they run, and not on an event loop, for it takes
                time; PayloadError may come of it. None where they have them, or are decoded when the tail asks
    """

    samples: tuple[Sample, ...]
    group: tuple[int, int]
    deadline_s: float | None
    decode: Callable[[], None] | None

    @property
    def sample(self) -> Sample:
        """The only one, or that of the first group."""
        return self.samples[0]

    def decoded(self) -> tuple[Sample, ...]:
        """The samples with their values. Raises PayloadError."""
        if self.decode is not None:
            self.decode()
        return self.samples


class Validator:
    """Checks requests against one network. `codec` is that of the network, with its limits.

    opinions  an image may come with the exit state of any exit: what the device's network thinks of it
    """

    def __init__(self, card: ModelCard, codec: TokenCodec, *, opinions: bool = False) -> None:
        self.card, self._codec, self._opinions = card, codec, opinions
        self._image_shape = (*card.image_size, card.channels)
        self._passed = tuple(next_exit(card, cut) for cut in range(card.depth))

    def check(self, request: pb.InferRequest) -> Checked:
        """The request's samples. Raises Rejected: FAILED_PRECONDITION for another protocol version or model,
        INVALID_ARGUMENT for everything else."""
        card = self.card
        check_version(request.protocol_version)
        check_model(request.model_id, card)
        if not request.HasField("request_id"):
            raise invalid("request_id: is missing")
        cut = request.split
        if cut >= card.depth:
            raise invalid(f"split: must be in 0..{card.depth - 1}, not {cut}")
        deadline_s = read_deadline(request)
        exit_margin = math.inf
        if request.HasField("exit_margin"):
            exit_margin = request.exit_margin
            if not math.isfinite(exit_margin):
                raise invalid("exit_margin: must be finite")
        kind = _payload_kind(request, cut)
        if request.refine:
            _check_refine(request, kind)
        try:
            check_payload_crc(request)
            if kind == "tokens" and request.tokens.HasField("groups"):
                return self._merged(request, exit_margin, deadline_s)
            sample = Sample(cut, NOTHING, exit_margin)
            if request.HasField("exit_state"):
                self._read_state(request.exit_state, (sample,))
            if kind == "image":
                decode = partial(_fill, sample, partial(decode_image, request.image, self._image_shape))
                return Checked((sample,), (0, card.patch_tokens + 1), deadline_s, decode)
            if kind == "symbols":
                sample.values = self._codec.symbols.checked(request.symbols, cut)
                return Checked((sample,), (cut, request.symbols.count), deadline_s, None)
            sample.rest = request.tokens.rest
            found = self._codec.checked(request.tokens, cut)
        except PayloadError as error:
            raise bad_payload(error) from None
        return Checked((sample,), (cut, found.rows), deadline_s, decoded_into(sample, found))

    def _merged(self, request: pb.InferRequest, exit_margin: float, deadline_s: float | None) -> Checked:
        """The samples of a merged batch, one a group."""
        cut, count = request.split, group_count(request.tokens)
        if count > MOST_GROUPS:
            raise invalid(f"tokens.groups: at most {MOST_GROUPS} groups, not {count}")
        samples = tuple(Sample(cut, NOTHING, exit_margin) for _ in range(count))
        if request.HasField("exit_state"):
            self._read_state(request.exit_state, samples)
        found = self._codec.checked(request.tokens, cut)
        return Checked(
            samples, (cut, request.tokens.count), deadline_s, partial(_fill_groups, samples, found)
        )

    def _read_state(self, message: pb.ExitState, samples: Sequence[Sample]) -> None:
        cut, count = samples[0].cut, len(samples)
        passed = self._passed[cut]
        if cut == 0 and self._opinions:
            passed = message.exits_passed
        if message.exits_passed != passed:
            raise invalid(
                f"exit_state.exits_passed: must be {passed} at split {cut}, not {message.exits_passed}"
            )
        if passed:
            card = self.card
            reading = read_exit_state(
                message, count * card.exit_state_dim, count * card.class_count, len(card.exits)
            )
            states = zip(reading.u.reshape(count, -1), reading.logits.reshape(count, -1), strict=True)
            for sample, (u, logits) in zip(samples, states, strict=True):
                sample.u, sample.logits = u, logits
        elif message.state or message.logits:
            raise invalid(f"exit_state.state: must be empty, no exit lies before split {cut}")


def decoded_into(sample: Sample, found: Decoding) -> Callable[[], None] | None:
    """What is left to do before the sample can run, as in `Checked.decode`."""
    if found.sure:
        sample.values = found.tokens
        return None
    return partial(_fill, sample, found.tokens)


def _fill(sample: Sample, values: Callable[[], np.ndarray]) -> None:
    sample.values = values()


def _fill_groups(samples: Sequence[Sample], found: Decoding) -> None:
    values = found.tokens()
    for sample, tokens in zip(samples, values.reshape(len(samples), -1, values.shape[1]), strict=True):
        sample.values = tokens


def parse(kind: type[_M], data: bytes) -> _M:
    """A message from its bytes. Raises Rejected (INVALID_ARGUMENT) where they are none."""
    try:
        return kind.FromString(data)
    except Exception:  # upb raises DecodeError, the pure-Python parser others
        raise invalid(f"not a {kind.__name__} message") from None


def check_version(version: int) -> None:
    """Raise Rejected (FAILED_PRECONDITION) unless the protocol version is this server's."""
    if version != PROTOCOL_VERSION:
        raise unmet(f"protocol_version: {version}, this server speaks {PROTOCOL_VERSION}")


def check_model(model_id: str, card: ModelCard) -> None:
    """Raise Rejected (FAILED_PRECONDITION) unless the model is this server's."""
    if model_id != card.id:
        raise unmet(f"model_id: {model_id[:64]!r}, this server runs {card.id!r} ({card.name})")


def read_deadline(request: pb.InferRequest) -> float | None:
    """The relative deadline, None where there is none. Raises Rejected for one that is no time."""
    if not request.HasField("deadline_s"):
        return None
    deadline_s = request.deadline_s
    if not _SHORTEST_DEADLINE_S <= deadline_s < math.inf:
        raise invalid(f"deadline_s: must be finite and at least {_SHORTEST_DEADLINE_S} s, not {deadline_s:g}")
    return deadline_s


def soonest(*limits_s: float | None) -> float | None:
    """The shortest of the limits that are set; None where none is."""
    return min((limit_s for limit_s in limits_s if limit_s is not None), default=None)


def _check_refine(request: pb.InferRequest, kind: str) -> None:
    if kind != "tokens" or request.tokens.HasField("groups"):
        raise invalid("refine: is for tokens of one sample")
    if not (request.HasField("refine_margin") and math.isfinite(request.refine_margin)):
        raise invalid("refine_margin: must be given with refine, and finite")


def _payload_kind(request: pb.InferRequest, cut: int) -> str:
    kind = request.WhichOneof("payload")
    if kind is None:
        raise invalid("payload: is missing")
    wanted = ("tokens", "symbols") if cut else ("image",)
    if kind not in wanted:
        raise invalid(f"{kind}: split {cut} takes {' or '.join(wanted)}")
    return kind
