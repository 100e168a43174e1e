"""Golden bytes: payloads that were written once, on one machine, must read the same on every other.

All inputs are made of small integers over powers of two, so that float32 sums are exact in any order.
`python tests/codec/test_golden.py` writes the files again; a difference there is a change of the wire.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitpoint.codec.adc import Merged
from splitpoint.codec.entropy import fit_tables
from splitpoint.codec.image import decode_image
from splitpoint.codec.planes import plane_bytes
from splitpoint.codec.requests import build_request, check_payload_crc, exit_state_message, read_exit_state
from splitpoint.codec.tokens import TokenCodec
from splitpoint.protos import splitpoint_pb2 as pb

FOLDER = Path(__file__).parent / "golden"
TOKENS, DIM, CUT = 25, 12, 3


def integers(rows: int, columns: int, width: int) -> np.ndarray:
    """A fixed pattern without a random generator, int64 (rows, columns) in -width..width."""
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return (i * i * 37 + i * j * 11 + j * j * 101 + 17 * j) % (2 * width + 1) - width


def tokens() -> np.ndarray:
    # Halved from dim to dim, as spreads fall in a trained basis.
    return (integers(TOKENS, DIM, 127) / 2.0 ** (4 + np.arange(DIM) // 2)).astype(np.float32)


def basis() -> dict[str, np.ndarray]:
    return {
        f"codec.{CUT}.mean": integers(1, DIM, 4)[0],
        f"codec.{CUT}.down": np.tril(integers(DIM, DIM, 2), -1) // 2 + np.eye(DIM),
        f"codec.{CUT}.up": np.triu(integers(DIM, DIM, 2), 1) // 2 + np.eye(DIM),
    }


def golden() -> dict[str, dict[str, Any]]:
    return json.loads((FOLDER / "payloads.json").read_text())


def codec() -> TokenCodec:
    # The tables are read, not fitted: fitting takes logarithms, which differ between machines.
    tables = np.array(golden()["tables"]["values"], np.uint16)
    return TokenCodec({**basis(), f"codec.{CUT}.tables": tables}, max_tokens=TOKENS)


SCORES = integers(1, TOKENS - 1, 50)[0].astype(np.float32)
CASES = {
    "packed_8_bits": {},
    "packed_3_bits_9_dims": {"keep": 0.5, "dims": 9, "bits": 3},
    "packed_1_bit_1_dim": {"keep": 0.1, "dims": 1, "bits": 1},
    "ans_8_bits": {"coder": pb.CODER_ANS},
    "ans_5_bits_11_dims": {"dims": 11, "bits": 5, "coder": pb.CODER_ANS},
}


def encoded(name: str) -> pb.Tokens:
    return codec().encode(tokens(), SCORES, CUT, **CASES[name])[0]


def merged() -> pb.Tokens:
    batch = np.stack([tokens()[:5], tokens()[5:10], tokens()[10:15]])
    kept = np.tile(np.arange(5), (3, 1))
    return codec().encode_merged(Merged(batch, kept, np.array([0, 1, 0, 2, 1]), 0.6), CUT, dims=6, bits=5)


def request() -> pb.InferRequest:
    return build_request(
        model_id="0123456789abcdef",
        request_id=7,
        cut=CUT,
        deadline_s=0.25,
        exit_margin=0.75,
        payload=encoded("packed_3_bits_9_dims"),
        exit_state=exit_state_message(integers(1, 8, 9)[0] / 8.0, integers(1, 10, 30)[0] / 4.0, 2, 0.5),
        refine_margin=0.625,
    )


def image() -> np.ndarray:
    return (integers(8, 24, 100) + 128).astype(np.uint8).reshape(8, 8, 3)


def hexed(values: np.ndarray) -> list[str]:
    return [row.astype("<f4").tobytes().hex() for row in np.atleast_2d(values)]


@pytest.mark.parametrize("name", [*CASES, "merged"])
def test_golden_payloads_decode_to_the_values_they_were_written_with(name):
    case = golden()[name]
    message = pb.Tokens.FromString(bytes.fromhex(case["bytes"]))
    assert hexed(codec().decode(message, CUT)) == case["decoded"]


@pytest.mark.parametrize("name", [*CASES, "merged"])
def test_the_encoder_still_writes_the_golden_payloads(name):
    message = merged() if name == "merged" else encoded(name)
    assert message.SerializeToString(deterministic=True).hex() == golden()[name]["bytes"]


def test_the_ans_cases_really_use_it():
    for name, options in CASES.items():
        message = encoded(name)
        packed = plane_bytes(message.count * message.dims)
        assert (min(len(plane) for plane in message.planes) < packed) == ("coder" in options)


def test_the_golden_request_reads_as_it_was_written():
    data = bytes.fromhex(golden()["request"]["bytes"])
    message = pb.InferRequest.FromString(data)
    assert message == request()
    assert request().SerializeToString(deterministic=True) == data
    check_payload_crc(message)
    state = read_exit_state(message.exit_state, 8, 10, 3)
    assert (state.u == integers(1, 8, 9)[0] / 8.0).all()
    assert (state.logits == integers(1, 10, 30)[0] / 4.0).all()


@pytest.mark.parametrize("name", ["png", "webp"])
def test_golden_images_decode_to_their_pixels(name):
    message = pb.Image.FromString(bytes.fromhex(golden()[f"image_{name}"]["bytes"]))
    assert (decode_image(message, (8, 8, 3)) == image()).all()


def write() -> None:
    import io

    from PIL import Image

    from splitpoint.codec.image import encode_image

    tables = fit_tables([TokenCodec(basis()).quantised(tokens(), None, CUT, 1.0, 0)[0]] * 20, DIM, classes=3)
    (FOLDER / "payloads.json").write_text(json.dumps({"tables": {"values": tables.tolist()}}))
    messages = {name: encoded(name) for name in CASES} | {"merged": merged()}
    cases = golden() | {
        name: {
            "bytes": message.SerializeToString(deterministic=True).hex(),
            "decoded": hexed(codec().decode(message, CUT)),
        }
        for name, message in messages.items()
    }
    cases["request"] = {"bytes": request().SerializeToString(deterministic=True).hex()}
    cases["image_png"] = {"bytes": encode_image(image()).SerializeToString().hex()}
    lossless = io.BytesIO()
    Image.fromarray(image()).save(lossless, "WEBP", lossless=True)
    webp = pb.Image(format=pb.IMAGE_FORMAT_WEBP, data=lossless.getvalue())
    cases["image_webp"] = {"bytes": webp.SerializeToString().hex()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    (FOLDER / "payloads.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    write()
