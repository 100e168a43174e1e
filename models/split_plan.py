"""What the two sides of split learning agree on before the first step. No torch."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from ..protos import splitpoint_pb2 as pb

__all__ = ["SplitPlan"]


class SplitPlan(BaseModel):
    """How a network is trained in two halves.

    cut            blocks on the device
    method, rate   how activations and gradients are compressed; the wanted fraction of their values
    rho_batch      of ADC: clusters over samples, in rate..1; 1 merges nothing and drops tokens only; 0: sqrt(rate)
    steps          length of the schedule: a short warm-up, then a cosine from `learning_rate` to a hundredth of it
    batch          most samples in a step
    send_labels    labels leave the device and the loss is the server's: one round trip. Otherwise the server returns
                   logits and the device the gradient of them: two round trips
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cut: int = Field(ge=1)
    method: str = "adc"
    rate: float = Field(0.1, gt=0.0, le=1.0)
    rho_batch: float = Field(0.0, ge=0.0, le=1.0)
    seed: int = Field(0, ge=0, lt=1 << 63)
    steps: int = Field(ge=1, le=10_000_000)
    batch: int = Field(64, ge=2, le=4096)
    learning_rate: float = Field(5e-4, gt=0.0, le=1.0)
    weight_decay: float = Field(0.05, ge=0.0, le=1.0)
    send_labels: bool = False

    def to_message(self, resume_step: int) -> pb.TrainPlan:
        """The plan as it travels, beside `split` in the request."""
        values = self.model_dump(exclude={"cut"})
        return pb.TrainPlan(**values, resume_step=resume_step)

    @classmethod
    def from_message(cls, cut: int, message: pb.TrainPlan) -> Self:
        """Raises pydantic.ValidationError, whose location names the field."""
        return cls(
            cut=cut,
            method=message.method,
            rate=message.rate,
            rho_batch=message.rho_batch,
            seed=message.seed,
            steps=message.steps,
            batch=message.batch,
            learning_rate=message.learning_rate,
            weight_decay=message.weight_decay,
            send_labels=message.send_labels,
        )
