"""Images: PNG is lossless and repeatable; what is not an image of the model's size is refused unread."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from splitpoint.codec.errors import PayloadError
from splitpoint.codec.image import decode_image, encode_image
from splitpoint.protos import splitpoint_pb2 as pb


def smooth(channels: int, size: int = 32) -> np.ndarray:
    ramp = np.add.outer(np.arange(size), np.arange(size)) * 255 // (2 * size)
    return np.stack([ramp] * channels, axis=2).astype(np.uint8)


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]))),
)
@settings(max_examples=60, deadline=None)
def test_png_is_lossless_and_repeatable(image):
    message = encode_image(image)
    assert message.format == pb.IMAGE_FORMAT_PNG
    assert (decode_image(message, image.shape) == image).all()
    assert encode_image(image.copy()) == message


@pytest.mark.parametrize("format", ["webp", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_are_close_and_shorter_at_a_lower_quality(format, channels):
    image = smooth(channels)
    fine, coarse = encode_image(image, format, 95), encode_image(image, format, 10)
    assert np.abs(decode_image(fine, image.shape).astype(int) - image).mean() < 3
    assert len(coarse.data) < len(fine.data)


def test_the_declared_format_alone_is_tried():
    message = encode_image(smooth(3))
    for other in (pb.IMAGE_FORMAT_JPEG, pb.IMAGE_FORMAT_WEBP):
        message.format = other
        with pytest.raises(PayloadError) as caught:
            decode_image(message, (32, 32, 3))
        assert caught.value.field == "image.data"
        # Not where in the server's memory it lies.
        assert "0x" not in caught.value.problem


@pytest.mark.parametrize("format", [pb.IMAGE_FORMAT_UNSPECIFIED, 77])
def test_an_unknown_format_is_refused(format):
    with pytest.raises(PayloadError) as caught:
        decode_image(pb.Image(format=format, data=b"x"), (32, 32, 3))
    assert caught.value.field == "image.format"


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
def test_another_size_is_refused(format):
    message = encode_image(smooth(3), format)
    with pytest.raises(PayloadError, match="must be 31x32 pixels, not 32x32"):
        decode_image(message, (32, 31, 3))


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
def test_every_truncation_is_refused(format):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    message = encode_image(image, format, 50)
    for length in range(0, len(message.data) - 12, 7):
        with pytest.raises(PayloadError) as caught:
            decode_image(pb.Image(format=message.format, data=message.data[:length]), (16, 16, 3))
        assert caught.value.field == "image.data"


FILES = {name: encode_image(smooth(3, 16), name).data for name in ("png", "webp", "jpeg")}
NUMBERS = {"png": pb.IMAGE_FORMAT_PNG, "webp": pb.IMAGE_FORMAT_WEBP, "jpeg": pb.IMAGE_FORMAT_JPEG}


@given(
    st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4)
)
@settings(max_examples=200, deadline=None)
def test_mutated_files_give_an_image_or_a_payload_error(name, changes):
    data = bytearray(FILES[name])
    for place, value in changes:
        data[int(place * len(data))] = value
    try:
        image = decode_image(pb.Image(format=NUMBERS[name], data=bytes(data)), (16, 16, 3))
    except PayloadError as error:
        problem = error.field
    else:
        problem = None
        assert image.shape == (16, 16, 3)
    assert problem in (None, "image.data")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def webp(kind: bytes, body: bytes) -> bytes:
    data = b"WEBP" + kind + struct.pack("<I", len(body)) + body + b"\0" * 16
    return b"RIFF" + struct.pack("<I", len(data)) + data


BIG = 16383


@pytest.mark.parametrize(
    ("format", "data"),
    [
        (pb.IMAGE_FORMAT_PNG, png(60_000, 60_000)),
        (pb.IMAGE_FORMAT_PNG, png(2**31 - 1, 2**31 - 1)),
        (pb.IMAGE_FORMAT_WEBP, webp(b"VP8X", b"\0" * 4 + BIG.to_bytes(3, "little") * 2)),
        (pb.IMAGE_FORMAT_WEBP, webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", BIG, BIG))),
        (pb.IMAGE_FORMAT_WEBP, webp(b"VP8L", b"\x2f" + (BIG | BIG << 14).to_bytes(4, "little"))),
    ],
)
def test_a_huge_canvas_is_refused_before_it_is_made(format, data):
    with pytest.raises(PayloadError, match=r"image\.data"):
        decode_image(pb.Image(format=format, data=data), (32, 32, 3))


def test_a_webps_size_is_read_as_pillow_reads_it():
    for options in ({"quality": 50}, {"lossless": True}, {"quality": 50, "exif": b"Exif\0\0"}):
        out = io.BytesIO()
        Image.fromarray(smooth(3)).save(out, "WEBP", **options)
        message = pb.Image(format=pb.IMAGE_FORMAT_WEBP, data=out.getvalue())
        assert decode_image(message, (32, 32, 3)).shape == (32, 32, 3)
        with pytest.raises(PayloadError, match="not 32x32"):
            decode_image(message, (33, 32, 3))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_chunks_that_inflate_when_a_file_is_opened_are_refused(kind):
    data = png(32, 32, chunk(kind, b"a\0\0" + zlib.compress(bytes(1_000_000))))
    with pytest.raises(PayloadError, match=kind.decode()):
        decode_image(pb.Image(format=pb.IMAGE_FORMAT_PNG, data=data), (32, 32, 3))


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
def test_noise_at_the_best_quality_is_read(format):
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert decode_image(encode_image(image, format, 100), image.shape).shape == image.shape


def test_a_file_much_larger_than_its_pixels_is_refused_at_once():
    data = png(32, 32, *[chunk(b"teSt", b"")] * 100_000)
    with pytest.raises(PayloadError, match="must have at most 71680 bytes, not 1200"):
        decode_image(pb.Image(format=pb.IMAGE_FORMAT_PNG, data=data), (32, 32, 3))


def test_a_grey_image_is_read_for_a_colour_model_and_transparency_is_refused():
    assert (decode_image(encode_image(smooth(1)), (32, 32, 3)) == smooth(3)).all()
    out = io.BytesIO()
    Image.new("RGBA", (32, 32)).save(out, "PNG")
    with pytest.raises(PayloadError, match="RGBA"):
        decode_image(pb.Image(format=pb.IMAGE_FORMAT_PNG, data=out.getvalue()), (32, 32, 3))


@pytest.mark.parametrize(
    ("image", "format", "field"),
    [
        (np.zeros((4, 4, 2), np.uint8), "png", "image"),
        (np.zeros((4, 4), np.uint8), "png", "image"),
        (np.zeros((0, 4, 3), np.uint8), "png", "image"),
        (np.zeros((4, 4, 3), np.float32), "png", "image"),
        (np.zeros((4, 4, 3), np.uint8), "gif", "image.format"),
    ],
)
def test_what_cannot_be_encoded_is_refused_by_field(image, format, field):
    with pytest.raises(PayloadError) as caught:
        encode_image(image, format)
    assert caught.value.field == field
