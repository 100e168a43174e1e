"""What is checked before a request of split learning reaches the network. What does not hold names its field:
Rejected for what stands beside the arrays, PayloadError for the arrays themselves.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from ..codec.errors import PayloadError
from ..codec.halves import read_halves
from ..codec.train_step import check_train_crc, read_classes, read_gradient
from ..models.card import ModelCard
from ..models.split_plan import SplitPlan
from ..protos import splitpoint_pb2 as pb
from .refusals import invalid
from .validation import check_model, check_version

__all__ = [
    "Batch",
    "check_batch",
    "check_evaluation",
    "check_gradient",
    "check_header",
    "check_plan",
    "kind_of",
]

_SESSION = re.compile(r"[0-9a-f]{32}")
_LONGEST_NAME = 64
_SUM_TOLERANCE = 0.01  # of a float16 soft label, whose entries are rounded each


class Batch(NamedTuple):
    """values float32 (samples, tokens, dims); targets int64 (outputs,), float32 (outputs, C), or None."""

    values: np.ndarray
    indices: bytes
    outputs: int
    targets: np.ndarray | None


def check_header(request: pb.TrainStepRequest, card: ModelCard) -> None:
    """Protocol version, model and session. Rejected: FAILED_PRECONDITION, or INVALID_ARGUMENT for the session."""
    check_version(request.protocol_version)
    check_model(request.model_id, card)
    # It becomes a folder's name: nothing but hexadecimal digits.
    if _SESSION.fullmatch(request.session) is None:
        raise invalid("session: must be 32 hexadecimal digits")
    if not request.HasField("step"):
        raise invalid("step: is missing")


def kind_of(request: pb.TrainStepRequest) -> str:
    """plan, batch, gradient, evaluate, checkpoint or finish; exactly one."""
    kinds = [
        name
        for name, there in (
            ("plan", request.HasField("plan")),
            ("evaluate", request.evaluate),
            ("batch", bool(request.activations) and not request.evaluate),
            ("gradient", bool(request.logits_gradient)),
            ("checkpoint", request.checkpoint),
            ("finish", request.finish),
        )
        if there
    ]
    if len(kinds) != 1:
        raise invalid(f"a request does one thing, this one {' and '.join(kinds) or 'nothing'}")
    return kinds[0]


def check_plan(request: pb.TrainStepRequest, card: ModelCard, most_rows: int) -> SplitPlan:
    """The plan, within the network and the server's limits."""
    # It is looked for among the methods' names, and named in the refusal, which must fit a call's trailers.
    if len(request.plan.method) > _LONGEST_NAME:
        raise invalid(f"plan.method: must have at most {_LONGEST_NAME} characters")
    try:
        plan = SplitPlan.from_message(request.split, request.plan)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise invalid(f"{'split' if field == 'cut' else f'plan.{field}'}: {problem['msg']}") from None
    if not plan.cut < card.depth:
        raise invalid(f"split: must be in 1..{card.depth - 1}, not {plan.cut}")
    if plan.batch > most_rows:
        raise invalid(f"plan.batch: at most {most_rows} here, not {plan.batch}")
    if request.plan.resume_step > plan.steps:
        raise invalid(f"plan.resume_step: {request.plan.resume_step} is beyond the plan's {plan.steps} steps")
    return plan


def check_batch(
    request: pb.TrainStepRequest, plan: SplitPlan, card: ModelCard, shape: tuple[int, int, int], indexed: bool
) -> Batch:
    """Activations and targets; `shape` is what the method's decoder wants for `outputs` rows, `indexed` whether
    it reads indices."""
    _check_rows(request, plan)
    if request.outputs < 2:  # batch norm needs two
        raise invalid(f"outputs: must be in 2..{plan.batch}, not {request.outputs}")
    given = (request.samples, request.tokens, request.dims)
    if given != shape:
        raise invalid(f"samples, tokens, dims: must be {shape} for {request.outputs} outputs, not {given}")
    if bool(request.indices) != indexed:
        raise invalid(f"indices: {'are missing' if indexed else f'the method {plan.method} takes none'}")
    check_train_crc(request)
    values = read_halves("activations", request.activations, shape)
    targets = _targets(request, plan, card)
    return Batch(values, request.indices, request.outputs, targets)


def check_evaluation(request: pb.TrainStepRequest, plan: SplitPlan, card: ModelCard) -> np.ndarray:
    """Uncompressed activations float32 (B, n, d)."""
    _check_rows(request, plan)
    shape = (request.outputs, card.patch_tokens + 1, card.dim)
    check_train_crc(request)
    return read_halves("activations", request.activations, shape)


def check_gradient(request: pb.TrainStepRequest, rows: int, classes: int) -> np.ndarray:
    """Gradient of the logits, float32 (rows, classes)."""
    check_train_crc(request)
    return read_gradient("logits_gradient", request.logits_gradient, (rows, classes), request.gradient_scale)


def _check_rows(request: pb.TrainStepRequest, plan: SplitPlan) -> None:
    if not 1 <= request.outputs <= plan.batch:
        raise invalid(f"outputs: must be in 1..{plan.batch}, not {request.outputs}")
    if request.split != plan.cut:
        raise invalid(f"split: the session's plan says {plan.cut}, not {request.split}")


def _targets(request: pb.TrainStepRequest, plan: SplitPlan, card: ModelCard) -> np.ndarray | None:
    if bool(request.labels) + bool(request.classes) != plan.send_labels:
        wanted = "one of labels and classes is needed" if plan.send_labels else "stay on the device"
        raise invalid(f"labels: {wanted}, as the session's plan says")
    if request.classes:
        return read_classes(request.classes, request.outputs, card.class_count)
    if request.labels:
        soft = read_halves("labels", request.labels, (request.outputs, card.class_count))
        if soft.min() < 0.0 or np.abs(soft.sum(axis=1) - 1.0).max() > _SUM_TOLERANCE:
            raise PayloadError("labels", "must be distributions")
        return soft
    return None
