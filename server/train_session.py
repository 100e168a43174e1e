"""One split-learning session on the server: a tail of its own, in training, one step after the other.

    plan ─► (activations ─► loss, gradient)*                         labels sent
         ─► (activations ─► logits, logits' gradient ─► gradient)*   loss on the device
         ─► checkpoint, evaluate, finish

The last reply is kept: a device whose reply was lost asks again with the same step, and nothing is learned twice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..codec.errors import PayloadError
from ..codec.halves import half_bytes
from ..codec.train_step import gradient_bytes
from ..models.card import ModelCard
from ..models.split_compression.methods import build_decoder
from ..models.split_halves import half_parameters, half_state, save_half, tail_logits
from ..models.split_optimizer import HalfOptimizer, read_checkpoint
from ..models.split_plan import SplitPlan
from ..models.vit import SplitViT
from ..protos import splitpoint_pb2 as pb
from .train_validation import Batch

__all__ = ["TailSession"]

_KEPT_CHECKPOINTS = 2  # the device may have died before it wrote its own


class TailSession:
    """Trains `network`'s blocks from the cut on, its last exit and the method's decoder.

    network  a copy of its own, which it changes
    folder   checkpoints and, at the end, tail.safetensors go here; it need not exist

    Methods raise PayloadError for arrays that the network or the decoder cannot take.
    """

    def __init__(self, network: SplitViT, card: ModelCard, plan: SplitPlan, folder: Path) -> None:
        self.card, self.plan, self.folder = card, plan, folder
        self.network = network.train()
        self._where = next(network.parameters()).device
        self.decoder = build_decoder(plan.method, card, plan.rate, plan.seed, plan.rho_batch)
        self.decoder.to(self._where).train()
        parameters = [p for _, p in half_parameters(network, plan.cut, "tail")]
        self._optimizer = HalfOptimizer(
            [*parameters, *self.decoder.parameters()], plan.weight_decay, plan.steps, plan.learning_rate
        )
        self.step = 0
        self.last: tuple[tuple[int, str, int], bytes] | None = None
        self._pending: tuple[Tensor, Tensor] | None = None

    def learn(self, batch: Batch) -> pb.TrainStepReply:
        """One batch with its targets: step, and return the loss and the gradient at the cut."""
        values, logits = self._forward(batch)
        if batch.targets is None:
            reply = pb.TrainStepReply(step=self.step, logits=_logits_bytes(logits))
            self._pending = values, logits
            return reply
        targets = torch.from_numpy(batch.targets).to(self._where)
        loss = functional.cross_entropy(logits, targets)
        return self._backward(values, loss, None, float(loss.detach()))

    @property
    def pending_rows(self) -> int | None:
        """Rows of the logits whose gradient is awaited; None where none is."""
        return None if self._pending is None else len(self._pending[1])

    def learn_from_logits(self, gradient: np.ndarray) -> pb.TrainStepReply:
        """The second half of a step whose loss is the device's: gradient (outputs, C) of the logits."""
        assert self._pending is not None
        values, logits = self._pending
        self._pending = None
        return self._backward(values, logits, torch.from_numpy(gradient).to(self._where), None)

    def evaluate(self, activations: np.ndarray) -> pb.TrainStepReply:
        """Logits of uncompressed activations (B, n, d); nothing is learned."""
        self.network.eval()
        try:
            with torch.inference_mode():
                x = torch.from_numpy(activations).to(self._where)
                logits = tail_logits(self.network, x, self.plan.cut)
        finally:
            self.network.train()
        return pb.TrainStepReply(step=self.step, logits=_logits_bytes(logits))

    def save(self) -> pb.TrainStepReply:
        """Write a checkpoint of this step; only the last ones are kept."""
        state = {f"network.{k}": v for k, v in half_state(self.network, self.plan.cut, "tail").items()}
        state |= {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        metadata = {"plan": self.plan.model_dump_json(), "model_id": self.card.id, "step": self.step}
        newest = self._checkpoint(self.step)
        self._optimizer.save(newest, state, metadata)
        written = sorted(self.folder.glob("step-*.safetensors"))
        # Later steps are of a course that was left: one under this name was begun anew, or went on from before them.
        kept = [path for path in written if path <= newest][-_KEPT_CHECKPOINTS:]
        for path in set(written).difference(kept):
            path.unlink()
        return pb.TrainStepReply(step=self.step)

    def resume(self, step: int) -> bool:
        """Go on from the checkpoint of `step`; False where there is none of this plan. DataError if broken."""
        path = self._checkpoint(step)
        if not path.is_file():
            return False
        state, moments, metadata = read_checkpoint(path)
        if metadata.get("plan") != self.plan.model_dump_json() or metadata.get("model_id") != self.card.id:
            return False
        _load(self.network, state, "network.")
        _load(self.decoder, state, "decoder.")
        self._optimizer.restore(moments)
        self.step = step
        return True

    def finish(self) -> pb.TrainStepReply:
        """Write the tail's weights."""
        save_half(self.folder / "tail.safetensors", self.network, self.card, self.plan.cut, "tail")
        return pb.TrainStepReply(step=self.step)

    def _checkpoint(self, step: int) -> Path:
        return self.folder / f"step-{step:010d}.safetensors"

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        values = torch.from_numpy(batch.values).to(self._where).requires_grad_()
        x = self.decoder.decode(values, batch.indices, batch.outputs)
        return values, tail_logits(self.network, x, self.plan.cut)

    def _backward(
        self, values: Tensor, of: Tensor, gradient: Tensor | None, loss: float | None
    ) -> pb.TrainStepReply:
        of.backward(gradient)
        assert values.grad is not None
        if not all(bool(torch.isfinite(g).all()) for g in (of.detach(), values.grad)):
            self._optimizer.forget()
            # Nothing of this step stands any more: the same batch, sent again, must run again.
            self.last = None
            raise PayloadError("activations", "give a loss or a gradient that is not finite")
        returned, scale = gradient_bytes(values.grad.cpu().numpy())
        self._optimizer.take(self.step)
        self.step += 1
        return pb.TrainStepReply(
            step=self.step, activations_gradient=returned, gradient_scale=scale, loss=loss
        )


def _logits_bytes(logits: Tensor) -> bytes:
    found = logits.detach().float().cpu().numpy()
    if not np.isfinite(found).all():
        raise PayloadError("activations", "give logits that are not finite")
    return half_bytes(found)


def _load(module: torch.nn.Module, state: dict[str, Tensor], prefix: str) -> None:
    part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    module.load_state_dict(module.state_dict() | part)
