"""The grid of a Profile: at which cuts and compressions a network is measured. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .card import ModelCard

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """Cuts (0: the raw input), and for cuts above 0 the keeps, dims and bits measured at each.

    refine_keeps  what the keeps below them are refined to, at every cut, dims and bits; () for no such refinements
    """

    cuts: tuple[int, ...]
    keeps: tuple[float, ...]
    dims: tuple[int, ...]
    bits: tuple[int, ...]
    refine_keeps: tuple[float, ...] = ()

    @classmethod
    def default(cls, card: ModelCard) -> Grid:
        """All cuts; keeps down to an eighth, dims to a quarter, bits to 2."""
        dims = tuple(dict.fromkeys((card.dim, max(1, card.dim // 2), max(1, card.dim // 4))))
        return cls(tuple(range(card.depth)), (1.0, 0.5, 0.25, 0.125), dims, (8, 4, 2))

    @classmethod
    def chosen(
        cls,
        card: ModelCard,
        keeps: Sequence[float] | None,
        dims: Sequence[int] | None,
        bits: Sequence[int] | None,
        refine_keeps: Sequence[float] | None,
    ) -> Grid:
        """The default grid with other axes where they are given, each falling and without repeats.

        dims 0 stands for all. Raises UsageError, naming the axis, for values that do not fit the card.
        """
        usual = cls.default(card)
        grid = cls(
            usual.cuts,
            tuple(sorted(set(keeps), reverse=True)) if keeps else usual.keeps,
            tuple(sorted({value or card.dim for value in dims}, reverse=True)) if dims else usual.dims,
            tuple(sorted(set(bits), reverse=True)) if bits else usual.bits,
            tuple(sorted(set(refine_keeps), reverse=True)) if refine_keeps else (),
        )
        grid.check(card)
        return grid

    def check(self, card: ModelCard) -> None:
        """Raise UsageError, naming the axis, unless the grid fits a network of this card."""
        for name, ok, span in (
            ("cuts", all(0 <= cut < card.depth for cut in self.cuts), f"0..{card.depth - 1}"),
            ("keeps", all(0 < keep <= 1 for keep in self.keeps), "(0, 1]"),
            ("dims", all(1 <= dims <= card.dim for dims in self.dims), f"1..{card.dim}"),
            ("bits", all(1 <= bits <= 8 for bits in self.bits), "1..8"),
        ):
            values = getattr(self, name)
            if not ok or not values or len(set(values)) != len(values):
                raise UsageError(f"the grid's {name} must be different values in {span}, not {values}")
        if not self.refine_keeps:
            return
        if card.gates:
            raise UsageError("the grid's refine_keeps: a network with gates sends all that these have left")
        wanted = set(self.refine_keeps)
        fit = len(wanted) == len(self.refine_keeps) and all(0 < keep <= 1 for keep in wanted)
        # A value that none of the keeps is refined to would be measured nowhere.
        if not fit or set(self.more(card, min(self.keeps))) != wanted or not any(self.cuts):
            raise UsageError(
                "the grid's refine_keeps must be different values in (0, 1] that keep more patches than its lowest "
                f"keep does, at cuts above 0, not {self.refine_keeps}"
            )

    def points(self) -> list[tuple[int, float, int, int]]:
        """(cut, keep, dims, bits) in the order of a Profile's first axis; cut 0 is one point."""
        points: list[tuple[int, float, int, int]] = []
        for cut in self.cuts:
            if cut == 0:
                points.append((0, 1.0, 0, 8))
            else:
                points += [(cut, *rest) for rest in itertools.product(self.keeps, self.dims, self.bits)]
        return points

    def more(self, card: ModelCard, keep: float) -> list[float]:
        """Those of `refine_keeps` that bring further patches to those of `keep`."""
        return [more for more in self.refine_keeps if card.kept(more) > card.kept(keep)]

    def refinements(self, card: ModelCard) -> list[tuple[int, float, float, int, int]]:
        """(cut, keep, refine_keep, dims, bits) in the order of a Profile's refinements."""
        pairs = [(keep, more) for keep in self.keeps for more in self.more(card, keep)]
        cuts = [cut for cut in self.cuts if cut]
        return [
            (cut, *pair, dims, bits)
            for cut, pair, dims, bits in itertools.product(cuts, pairs, self.dims, self.bits)
        ]
