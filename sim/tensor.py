"""The tensor engine's backend: the network really runs, on every input, as on the device and on the server."""

from __future__ import annotations

from collections.abc import Sequence

from ..channel.corruption import corrupted
from ..channel.link import Link
from ..codec.refinement import refined
from ..codec.requests import QUORUM_BYTES
from ..codec.tokens import TokenCodec
from ..device.effects import Reading, Reply
from ..device.encoder import Encoder
from ..device.head import HeadState, advanced
from ..device.load import load_head
from ..models.store import codec_arrays, load_network
from ..policies.decision import Decision
from ..protos import splitpoint_pb2 as pb
from ..protos.charges import charged
from ..server.tail import TorchTail
from ..server.validation import Validator
from ..server.work import Sample
from .backends import Upload
from .inputs import load_inputs
from .setup import Setup

__all__ = ["TensorBackend"]


class TensorBackend:
    """Head at batch 1, encoder, the server's validation and decoder, and its tail, all as in deployment."""

    def __init__(self, setup: Setup) -> None:
        data = load_inputs(setup)
        self._images, self.labels = data.images, data.labels
        self._head = load_head(str(setup.model_path), "torch")
        network, card = load_network(setup.model_path)
        codec = TokenCodec(codec_arrays(setup.model_path), dim=card.dim, max_tokens=card.patch_tokens + 1)
        self._whole = setup.scenario.quorum is not None
        self._codec = codec
        self._encoder = Encoder(
            card,
            codec,
            setup.scenario.coder,
            image_format=setup.scenario.image_format,
            whole_input=self._whole,
        )
        self._validator = Validator(card, codec)
        self._tail = TorchTail(network, card)
        self._card = card
        self.reply_bytes = self._encoder.reply_bytes + (QUORUM_BYTES if self._whole else 0)
        self._at = -1, 1.0
        self._state: HeadState

    def reading(self, sample: int, exit: int, keep: float) -> Reading:
        state = self._reach(sample, self._card.exits[exit], keep)
        return Reading(state.prediction, state.margin, exit)

    def upload(self, sample: int, cut: int, decision: Decision) -> Upload:
        state = self._reach(sample, cut, decision.keep) if cut else None
        request, _ = self._encoder.request(
            self._images[sample], state, decision, request_id=1, deadline_s=1.0
        )
        if self._whole:  # the quorum's learners see to the rest
            return Upload(request.ByteSize(), 0, None)
        checked = self._validator.check(pb.InferRequest.FromString(request.SerializeToString()))
        return Upload(request.ByteSize(), checked.group[1], checked.decoded()[0])

    def upload_merged(
        self, samples: Sequence[int], cut: int, decision: Decision, request_id: int
    ) -> tuple[list[Upload], list[int]]:
        states = [self._reach(sample, cut, decision.keep) for sample in samples]
        request, groups = self._encoder.merged_request(
            states, decision, request_id=request_id, deadline_s=1.0
        )
        checked = self._validator.check(pb.InferRequest.FromString(request.SerializeToString()))
        uploads = [Upload(request.ByteSize(), checked.group[1], sample) for sample in checked.decoded()]
        return uploads, groups.tolist()

    def refinement(self, sample: int, cut: int, decision: Decision) -> Upload:
        state = self._reach(sample, cut, decision.keep)
        first, _ = self._encoder.request(self._images[sample], state, decision, request_id=1, deadline_s=1.0)
        request = self._encoder.refinement(state, decision, request_id=1, session=1)
        # What was sent before is the same again: the head runs at batch 1, and codes are nested.
        whole = self._validator.check(first).sample
        found, whole.rest = refined(self._codec, first.tokens, request, cut)
        whole.values = found.tokens()
        return Upload(request.ByteSize(), found.rows, whole)

    def upload_symbols(self, sample: int, cut: int, decision: Decision, snr_db: float) -> Upload:
        request, _ = self._encoder.request(
            self._images[sample],
            self._reach(sample, cut, decision.keep),
            decision,
            request_id=1,
            deadline_s=1.0,
            snr_db=snr_db,
        )
        nbytes, channel_uses = charged(request, request.ByteSize())
        return Upload(nbytes, request.symbols.count, request, channel_uses)

    def received(self, upload: Upload, link: Link, start_s: float, request_id: int) -> Upload:
        request: pb.InferRequest = upload.handle
        request.request_id = request_id
        return upload._replace(handle=self._validator.check(corrupted(request, link, start_s)).sample)

    def serve(self, cut: int, uploads: list[Upload], exit_margins: list[float]) -> list[Reply]:
        samples: list[Sample] = [upload.handle for upload in uploads]
        replies: dict[int, Reply] = {}
        for progress in self._tail.run(samples):
            replies.update((row, Reply(*answer)) for row, answer in progress.answers)
        return [replies[row] for row in range(len(uploads))]

    def _reach(self, sample: int, blocks: int, keep: float) -> HeadState:
        """The device's state after `blocks` blocks, exits on the way read; goes on from where it stood."""
        at = sample, keep if self._card.gates else 1.0
        fresh = at != self._at or self._state.blocks > blocks
        self._state = advanced(self._head, self._images[sample], None if fresh else self._state, blocks, keep)
        self._at = at
        return self._state
