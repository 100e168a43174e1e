"""What a policy answers: where to cut one request and how much to send."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..errors import UsageError
from ..models.card import ModelCard

__all__ = ["NEVER", "Decision"]

NEVER = 2.0
"""An exit margin that no exit reaches (margins lie in [0, 1]); its negative is a slope never undercut."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One request's cut, compression and exit rule. The same type in simulation, on the wire and in environments.

    split          blocks executed on the device at most; 0 sends the raw input, the network's depth keeps all local
    keep           fraction of the patch tokens that is sent, in (0, 1]
    dims           leading bottleneck dims sent for each token; 0 stands for all of them
    bits           width of a code, 1..8 (digital links)
    symbols        complex symbols per token over the dim, in (0, 1]; above 0 the request goes as symbols, not bits
    exit_margin    an exit answers when its margin is at least this; `NEVER` switches exits off
    offload_slope  from the second exit on, offload when the margin rose by less than this; `-NEVER` switches it off
    refine_bits    width of a code once the server has asked for more planes, bits+1..8; 0: it may not ask
    refine_keep    fraction of the patch tokens once the server has asked for more of them, in (keep, 1]; 0: it may not
                   ask. Either of the two, never both
    refine_margin  the server asks when its answer's margin is below this
    merge          requests that come together may be merged into this fraction of them, in (0, 1] (ADC); 1: not merged.
                   Raw inputs and symbols never are

    Raises UsageError, naming the field, when a value is out of its range or not a number.
    """

    split: int
    keep: float = 1.0
    dims: int = 0
    bits: int = 8
    symbols: float = 0.0
    exit_margin: float = NEVER
    offload_slope: float = -NEVER
    refine_bits: int = 0
    refine_keep: float = 0.0
    refine_margin: float = 0.0
    merge: float = 1.0

    def __post_init__(self) -> None:
        for name in ("split", "dims", "bits", "refine_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise UsageError(f"Decision.{name} must be an integer, not {value!r}")
        for name in (
            "keep",
            "symbols",
            "exit_margin",
            "offload_slope",
            "refine_keep",
            "refine_margin",
            "merge",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"Decision.{name} must be a finite number, not {value!r}")
        _within("split", self.split, self.split >= 0, "at least 0")
        _within("keep", self.keep, 0 < self.keep <= 1, "in (0, 1]")
        _within("dims", self.dims, self.dims >= 0, "at least 0")
        _within("bits", self.bits, 1 <= self.bits <= 8, "in 1..8")
        _within("symbols", self.symbols, 0 <= self.symbols <= 1, "in [0, 1]")
        refines = not self.refine_bits or self.bits < self.refine_bits <= 8
        _within("refine_bits", self.refine_bits, refines, f"0 or in {self.bits + 1}..8")
        adds = not self.refine_keep or self.keep < self.refine_keep <= 1
        _within("refine_keep", self.refine_keep, adds, f"0 or in ({self.keep:g}, 1]")
        _within(
            "refine_keep", self.refine_keep, not (self.refine_keep and self.refine_bits), "0 with refine_bits"
        )
        _within("refine_margin", self.refine_margin, self.refine_margin >= 0, "at least 0")
        _within("merge", self.merge, 0 < self.merge <= 1, "in (0, 1]")
        if self.merge < 1 or self.symbols:
            for name in ("refine_bits", "refine_keep"):
                value = getattr(self, name)
                _within(name, value, not value, "0 in merged or symbol requests")

    def check(self, card: ModelCard) -> None:
        """Raise UsageError if the Decision does not fit the network of this card."""
        depth, dim = card.depth, card.dim
        _within("split", self.split, self.split <= depth, f"at most the network's depth, {depth}")
        _within("dims", self.dims, self.dims <= dim, f"at most the network's dim, {dim}")
        if card.gates:
            # Every sample then has tokens of its own, chosen on the way for this very keep.
            _within("merge", self.merge, not self.merges, "1 for a network with gates")
            _within("refine_keep", self.refine_keep, not self.refine_keep, "0 for a network with gates")
        elif self.refine_keep:
            more = card.kept(self.refine_keep) > card.kept(self.keep)
            enough = f"enough to keep more of {card.patch_tokens} patches than keep"
            _within("refine_keep", self.refine_keep, more, enough)

    @property
    def refines(self) -> bool:
        """Whether the server may ask for more; never of a raw input."""
        return self.split > 0 and bool(self.refine_bits or self.refine_keep)

    @property
    def merges(self) -> bool:
        """Whether requests that come together are merged."""
        return self.merge < 1.0 and self.split > 0 and not self.symbols

    def label(self) -> str:
        """Short text for tables, e.g. `split 2 keep 0.25 dims 32 bits 4 exit 0.8`."""
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "split" or value != field.default:
                parts.append(f"{field.name.removesuffix('_margin')} {value:g}")
        return " ".join(parts)


def _within(name: str, value: float, ok: bool, what: str) -> None:
    if not ok:
        raise UsageError(f"Decision.{name} must be {what}, not {value!r}")
