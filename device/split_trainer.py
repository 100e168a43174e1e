"""The device's half of split learning: one step, one evaluation, one checkpoint at a time.

    images ─► embed, blocks 0..cut ─► encode ─► activations ══► server ─► loss, or logits ◄═► their gradient
    optimiser ◄─ autograd ◄────────── gradient of the activations ◄══ server

How a request gets to the server is the caller's: over gRPC, or by a call in the same process. Bytes are those of
the serialised messages, either way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..codec.errors import PayloadError
from ..codec.halves import half_bytes, read_halves
from ..codec.train_step import gradient_bytes, read_gradient, train_crc
from ..errors import RemoteError
from ..models.card import ModelCard
from ..models.split_compression.base import Sent
from ..models.split_compression.methods import build_encoder
from ..models.split_halves import half_parameters, half_state, save_half
from ..models.split_optimizer import HalfOptimizer, read_checkpoint
from ..models.split_plan import SplitPlan
from ..models.vit import SplitViT
from ..protos import PROTOCOL_VERSION
from ..protos import splitpoint_pb2 as pb

__all__ = ["DeviceTrainer", "Exchange", "Traffic"]

Exchange = Callable[[pb.TrainStepRequest], Awaitable[pb.TrainStepReply]]


@dataclass
class Traffic:
    """Bytes of serialised messages: training (plans and checkpoints included) and evaluation, up and down."""

    up: int = 0
    down: int = 0
    evaluation_up: int = 0
    evaluation_down: int = 0


class DeviceTrainer:
    """Trains `network`'s embedding, its blocks before the cut and the method's encoder.

    network   changed in place; its tail is not touched
    exchange  takes a request to the server and brings its reply
    session   32 hex digits that name this training on the server

    RemoteError for a reply that does not fit; what `exchange` raises goes through.
    """

    def __init__(
        self, network: SplitViT, card: ModelCard, plan: SplitPlan, exchange: Exchange, session: str
    ) -> None:
        self.card, self.plan, self.session = card, plan, session
        self.step_count = 0
        self.traffic = Traffic()
        self._network, self._exchange = network.train(), exchange
        self._where = next(network.parameters()).device
        self.encoder = build_encoder(plan.method, card, plan.rate, plan.seed, plan.rho_batch)
        self.encoder.to(self._where).train()
        parameters = [p for _, p in half_parameters(network, plan.cut, "head")]
        self._optimizer = HalfOptimizer(
            [*parameters, *self.encoder.parameters()], plan.weight_decay, plan.steps, plan.learning_rate
        )

    async def open(self) -> None:
        """Begin the session, at the step where this side stands."""
        await self._ask(self._request(plan=self.plan.to_message(self.step_count)))

    async def step(self, images: Tensor, classes: Tensor) -> float:
        """One batch: images float (B, C, H, W), normalised; classes int64 (B,). Returns its loss."""
        x, attention = self._head(images)
        sent = self.encoder.encode(x, attention, classes, self.step_count)
        request = self._activations(sent.values, sent.outputs, sent.indices)
        if self.plan.send_labels:
            _add_labels(request, sent)
        reply = await self._ask(request)
        loss = reply.loss
        if not self.plan.send_labels:
            gradient, loss = self._loss(reply, sent)
            reply = await self._ask(gradient)
        self._learn(reply, sent.values)
        return loss

    async def logits(self, images: Tensor) -> np.ndarray:
        """Logits float32 (B, classes) of the whole network as it stands, nothing compressed."""
        self._network.eval()
        try:
            with torch.inference_mode():
                x, _ = self._head(images)
        finally:
            self._network.train()
        request = self._activations(x, len(x), b"")
        request.evaluate = True
        reply = await self._ask(request, evaluation=True)
        return self._read_logits(reply, len(x))

    async def checkpoint(self, path: Path, **metadata: object) -> None:
        """Have the server write its half, then write this one to `path`, so that the server's is never behind."""
        await self._ask(self._request(checkpoint=True))
        state = {f"network.{k}": v for k, v in half_state(self._network, self.plan.cut, "head").items()}
        state |= {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        known = {"plan": self.plan.model_dump_json(), "model_id": self.card.id, "session": self.session}
        traffic = asdict(self.traffic)
        self._optimizer.save(path, state, known | {"step": self.step_count, "traffic": traffic} | metadata)

    def resume(self, path: Path) -> dict[str, object]:
        """Take up the state of `checkpoint`; returns its metadata. `open` comes next."""
        state, moments, metadata = read_checkpoint(path)
        for module, prefix in ((self._network, "network."), (self.encoder, "encoder.")):
            part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(module.state_dict() | part)
        self._optimizer.restore(moments)
        self.step_count = int(str(metadata["step"]))
        traffic = metadata["traffic"]
        assert isinstance(traffic, dict)
        self.traffic = Traffic(**traffic)
        return metadata

    async def finish(self, path: Path) -> None:
        """Write this half's weights, and have the server write its own and end the session."""
        save_half(path, self._network, self.card, self.plan.cut, "head")
        await self._ask(self._request(finish=True))

    def _head(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self._network.run(self._network.embed(images), 0, self.plan.cut)

    def _request(self, **fields: object) -> pb.TrainStepRequest:
        return pb.TrainStepRequest(
            protocol_version=PROTOCOL_VERSION,
            model_id=self.card.id,
            session=self.session,
            step=self.step_count,
            split=self.plan.cut,
            **fields,  # type: ignore[arg-type]
        )

    def _activations(self, values: Tensor, outputs: int, indices: bytes) -> pb.TrainStepRequest:
        samples, tokens, dims = values.shape
        return self._request(
            samples=samples,
            tokens=tokens,
            dims=dims,
            outputs=outputs,
            indices=indices,
            activations=half_bytes(values.detach().float().cpu().numpy()),
        )

    def _loss(self, reply: pb.TrainStepReply, sent: Sent) -> tuple[pb.TrainStepRequest, float]:
        logits = torch.from_numpy(self._read_logits(reply, sent.outputs)).to(self._where).requires_grad_()
        loss = functional.cross_entropy(logits, sent.targets)
        loss.backward()
        assert logits.grad is not None
        data, scale = gradient_bytes(logits.grad.cpu().numpy())
        return self._request(logits_gradient=data, gradient_scale=scale), float(loss.detach())

    def _learn(self, reply: pb.TrainStepReply, values: Tensor) -> None:
        try:
            shape, data = tuple(values.shape), reply.activations_gradient
            gradient = read_gradient("activations_gradient", data, shape, reply.gradient_scale)
        except PayloadError as error:
            raise RemoteError(f"the server's reply: {error}") from None
        values.backward(torch.from_numpy(gradient).to(self._where))
        self._optimizer.take(self.step_count)
        self.step_count += 1

    def _read_logits(self, reply: pb.TrainStepReply, rows: int) -> np.ndarray:
        try:
            return read_halves("logits", reply.logits, (rows, self.card.class_count))
        except PayloadError as error:
            raise RemoteError(f"the server's reply: {error}") from None

    async def _ask(self, request: pb.TrainStepRequest, evaluation: bool = False) -> pb.TrainStepReply:
        request.payload_crc = train_crc(request)
        reply = await self._exchange(request)
        traffic = self.traffic
        if evaluation:
            traffic.evaluation_up += request.ByteSize()
            traffic.evaluation_down += reply.ByteSize()
        else:
            traffic.up += request.ByteSize()
            traffic.down += reply.ByteSize()
        return reply


def _add_labels(request: pb.TrainStepRequest, sent: Sent) -> None:
    targets = sent.targets.cpu().numpy()
    if targets.ndim == 1:
        request.classes = targets.astype("<u2").tobytes()
    else:
        request.labels = targets.astype("<f2").tobytes()
