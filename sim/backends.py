"""Where the virtual-time engines get the network's answers from: a Profile, or the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

from ..channel.link import Link
from ..codec.refinement import REFINABLE_BYTES, refinement_bytes
from ..device.effects import Reading, Reply
from ..errors import UsageError
from ..models.profile import Profile
from ..policies.decision import Decision

__all__ = ["Backend", "ProfileBackend", "Upload"]


class Upload(NamedTuple):
    """One encoded request: bytes on the wire, token count at the server, and what the backend serves it by.

    symbols: channel uses beside the bytes, of a request that goes as symbols.
    """

    nbytes: int
    tokens: int
    handle: Any
    symbols: int = 0


# With a tuple of all fields: several times cheaper than a NamedTuple's constructor.
_new = tuple.__new__


class Backend(Protocol):
    """Answers for one input. Exits are indices into the network's exits, cuts are blocks executed."""

    reply_bytes: int

    def reading(self, sample: int, exit: int, keep: float) -> Reading:
        """What the device's exit says of this sample; keep is the Decision's, for networks with gates."""

    def upload(self, sample: int, cut: int, decision: Decision) -> Upload:
        """The request that the device would send from this cut."""

    def upload_merged(
        self, samples: Sequence[int], cut: int, decision: Decision, request_id: int
    ) -> tuple[list[Upload], list[int]]:
        """One request for samples that came together: what serves each group, and the group of each sample.

        The first Upload has the bytes of the whole message.
        """

    def refinement(self, sample: int, cut: int, decision: Decision) -> Upload:
        """The second message of such a request, to `decision.refine_bits` or `refine_keep`; serves the whole."""

    def upload_symbols(self, sample: int, cut: int, decision: Decision, snr_db: float) -> Upload:
        """The request as symbols, made for the estimate `snr_db`; `received` must follow before it is served."""

    def received(self, upload: Upload, link: Link, start_s: float, request_id: int) -> Upload:
        """Such a request after the link, on which its first symbol was at `start_s`, has added its noise."""

    def serve(self, cut: int, uploads: list[Upload], exit_margins: list[float]) -> list[Reply]:
        """The server's answers to a batch of equal cut and token count."""


class ProfileBackend:
    """Looks everything up in a Profile: in a run the evaluation Profile, before it the calibration Profile."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.reply_bytes = profile.reply_bytes
        self._head = cache(self._readings)
        self._config = cache(partial(_config, profile))
        self._refined = cache(partial(_refined, profile))
        self._further: dict[tuple[int, int, int], int] = {}
        self._first_exit_after = [
            sum(exit <= cut for exit in profile.card.exits) for cut in range(profile.card.depth + 1)
        ]

    def reading(self, sample: int, exit: int, keep: float) -> Reading:
        return self._head(keep)[sample][exit]

    def _readings(self, keep: float) -> list[list[Reading]]:
        """By sample and exit."""
        if keep != 1.0 and not self._profile.card.gates:
            return self._head(1.0)
        predictions, margins = self._profile.head(keep)
        rows = zip(predictions.tolist(), margins.tolist(), strict=True)
        return [[Reading(p, m, e) for e, (p, m) in enumerate(zip(*row, strict=True))] for row in rows]

    def upload(self, sample: int, cut: int, decision: Decision) -> Upload:
        config = self._config(cut, decision.keep, decision.dims, decision.bits)
        nbytes = config.nbytes[sample]
        if decision.refines and cut:
            nbytes += REFINABLE_BYTES
        return _new(Upload, (nbytes, config.tokens[sample], (config, sample), 0))

    def upload_merged(
        self, samples: Sequence[int], cut: int, decision: Decision, request_id: int
    ) -> tuple[list[Upload], list[int]]:
        raise UsageError(
            f"Decision.merge {decision.merge:g}: what merged samples answer depends on their batch, which no "
            "profile knows; run engine tensor or live"
        )

    def refinement(self, sample: int, cut: int, decision: Decision) -> Upload:
        if decision.refine_keep:
            more = self._refined(cut, decision.keep, decision.refine_keep, decision.dims, decision.bits)
            return Upload(more.nbytes[sample], more.tokens[sample], (more, sample))
        config = self._config(cut, decision.keep, decision.dims, decision.refine_bits)
        tokens = config.tokens[sample]
        return Upload(self._further_bytes(tokens, decision), tokens, (config, sample))

    def _further_bytes(self, tokens: int, decision: Decision) -> int:
        key = (tokens, decision.dims, decision.refine_bits - decision.bits)
        nbytes = self._further.get(key)
        if nbytes is None:
            if self._profile.coder != "packed":
                raise UsageError(
                    "Decision.refine_bits: profiles of entropy-coded requests do not know the size of a plane; "
                    "run engine tensor or live, or coder packed"
                )
            nbytes = refinement_bytes(tokens, decision.dims or self._profile.card.dim, key[2])
            self._further[key] = nbytes
        return nbytes

    def upload_symbols(self, sample: int, cut: int, decision: Decision, snr_db: float) -> Upload:
        raise UsageError(
            f"Decision.symbols {decision.symbols:g}: no profile knows what noise does to symbols; "
            "run engine tensor or live"
        )

    def received(self, upload: Upload, link: Link, start_s: float, request_id: int) -> Upload:
        raise UsageError("the profile engine carries no symbols")

    def serve(self, cut: int, uploads: list[Upload], exit_margins: list[float]) -> list[Reply]:
        first = self._first_exit_after[cut]
        replies = []
        for upload, exit_margin in zip(uploads, exit_margins, strict=True):
            config, sample = upload.handle
            margins = config.margins[sample]
            last = len(margins) - 1
            exit = first
            while exit < last and margins[exit] < exit_margin:
                exit += 1
            replies.append(_new(Reply, (config.predictions[sample][exit], margins[exit], exit, 0)))
        return replies


class _Config(NamedTuple):
    """One grid point's rows as plain lists: the engines' hot path is per request."""

    nbytes: list[int]
    tokens: list[int]
    predictions: list[list[int]]
    margins: list[list[float]]


def _config(profile: Profile, cut: int, keep: float, dims: int, bits: int) -> _Config:
    index = profile.config(cut, keep, dims, bits)
    return _Config(
        profile.request_bytes[index].tolist(),
        profile.tokens[index].tolist(),
        profile.tail_prediction[index].tolist(),
        profile.tail_margin[index].tolist(),
    )


def _refined(profile: Profile, cut: int, keep: float, refine_keep: float, dims: int, bits: int) -> _Config:
    found, index = profile.refinement(cut, keep, refine_keep, dims, bits)
    return _Config(
        found.nbytes[index].tolist(),
        found.tokens[index].tolist(),
        found.prediction[index].tolist(),
        found.margin[index].tolist(),
    )
