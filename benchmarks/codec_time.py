"""Time of encoding and decoding over that of the head and the tail, at the default setting.

    python benchmarks/codec_time.py
    python benchmarks/codec_time.py --model cifar10 --cut 3 --data-dir DIR

One thread, batch 1, one image of the calibration split after another, in processor time, so that what else runs here
does not count: head (embedding, blocks and exits to the cut), encoding to the bytes of the request, decoding and
validation of them, tail to the last exit. Medians over the samples of each round, then the round's ratio; `ratio` is
the median of the rounds (bar: at most 0.10), `bytes` the mean request. With the entropy coder too where the model has
tables. Writes results/codec_time_MODEL.json; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import command_line, run

from splitpoint.codec.tokens import TokenCodec
from splitpoint.device.encoder import Encoder
from splitpoint.device.head import advanced
from splitpoint.device.load import load_head
from splitpoint.errors import UsageError
from splitpoint.models.data import load_data
from splitpoint.models.store import codec_arrays, load_network, resolve
from splitpoint.policies.decision import Decision
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.server.tail import TorchTail
from splitpoint.server.validation import Validator

RESULTS = Path(__file__).parent / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="clutter")
    parser.add_argument("--data", help="the model's own by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cut", type=int, default=2)
    parser.add_argument("--keep", type=float, default=0.25)
    parser.add_argument("--dims", type=int, default=48)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--samples", type=int, default=60, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def measured(given: argparse.Namespace, coder: str) -> dict[str, Any]:
    """Median milliseconds of each part, and the ratio, round by round."""
    network, card = load_network(given.model)
    data = load_data(given.data or card.name, "calibration", card=card, data_dir=given.data_dir)
    images = data.some(given.samples).images
    head, tail = load_head(given.model, "torch"), TorchTail(network, card)
    codec = TokenCodec(codec_arrays(resolve(given.model)), dim=card.dim, max_tokens=card.patch_tokens + 1)
    encoder, validator = Encoder(card, codec, coder), Validator(card, codec)
    decision = Decision(given.cut, keep=given.keep, dims=given.dims, bits=given.bits)
    rounds = []
    for turn in range(-1, given.rounds):  # one to warm up
        times, nbytes = np.empty((len(images), 4)), np.empty(len(images))
        for sample, image in enumerate(images):
            marks = [time.process_time()]
            state = advanced(head, image, None, given.cut)
            if state.logits is not None:
                _ = state.margin  # which tells the agent whether to stop there
            marks.append(time.process_time())
            request, _ = encoder.request(image, state, decision, request_id=1, deadline_s=1.0)
            message = request.SerializeToString()
            marks.append(time.process_time())
            samples = validator.check(pb.InferRequest.FromString(message)).decoded()
            _ = samples[0].values  # packed planes are else decoded when the tail asks
            marks.append(time.process_time())
            for _ in tail.run(samples):
                pass
            marks.append(time.process_time())
            times[sample], nbytes[sample] = np.diff(marks), len(message)
        if turn >= 0:
            rounds.append(np.median(times, axis=0))
    parts = np.array(rounds)
    ratios = (parts[:, 1] + parts[:, 2]) / (parts[:, 0] + parts[:, 3])
    names = ("head_ms", "encode_ms", "decode_ms", "tail_ms")
    middle = np.median(parts, axis=0)
    return {
        "coder": coder,
        **{name: round(1e3 * float(value), 3) for name, value in zip(names, middle, strict=True)},
        "ratio": round(float(np.median(ratios)), 4),
        "ratio_rounds": [round(float(value), 4) for value in ratios],
        "bytes": round(float(nbytes.mean()), 1),
    }


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    card = load_network(given.model)[1]
    if not 0 < given.cut < card.depth:
        raise UsageError(f"--cut must be in 1..{card.depth - 1}, not {given.cut}")
    codec = TokenCodec(codec_arrays(resolve(given.model)), dim=card.dim)
    coders = ["packed", "ans"] if pb.CODER_ANS in codec.coders(given.cut) else ["packed"]
    rows = [measured(given, coder) for coder in coders]
    print(f"{'coder':8}{'head ms':>9}{'encode':>9}{'decode':>9}{'tail ms':>9}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['coder']:8}{row['head_ms']:9.3f}{row['encode_ms']:9.3f}{row['decode_ms']:9.3f}"
            f"{row['tail_ms']:9.3f}{row['ratio']:8.4f}"
        )
    setting = {name: getattr(given, name) for name in ("cut", "keep", "dims", "bits")}
    summary = {"benchmark": "codec_time", "model": card.name, "ratio": rows[0]["ratio"], "setting": setting}
    RESULTS.mkdir(exist_ok=True)
    found = {
        "command": command_line(),
        "model_id": card.id,
        "machine": platform.machine(),
        "summary": summary,
        "coders": rows,
    }
    (RESULTS / f"codec_time_{card.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    run(main)
