"""Pictures as cameras, scanners and file managers leave them."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splitpoint.device.pixels import as_pixels
from splitpoint.errors import DataError
from splitpoint.models.images import fit_images, image_files, read_image

from .conftest import tiny_card

GREY = np.array([[0, 60, 120], [180, 200, 255]], np.uint8)


def test_sixteen_bits_of_grey_become_eight(tmp_path: Path) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    for name in ("deep.png", "deep.tif"):
        deep.save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name)[:, :, 0], GREY)
    card = tiny_card(image_size=(2, 3), patch=1, channels=1, mean=(0.0,), std=(1.0,))
    np.testing.assert_array_equal(as_pixels(deep, card)[:, :, 0], GREY)


def test_pixels_of_unknown_range_are_refused(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32):
        picture = Image.fromarray(GREY.astype(kind))
        picture.save(tmp_path / "wide.tif")
        with pytest.raises(DataError, match=r"wide\.tif: its pixels are of 32 bits"):
            read_image(tmp_path / "wide.tif")
        with pytest.raises(DataError, match="of 32 bits"):
            as_pixels(picture, tiny_card())


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    for orientation, turned in (
        (1, GREY),
        (2, GREY[:, ::-1]),
        (3, GREY[::-1, ::-1]),
        (4, GREY[::-1]),
        (5, GREY.T),
        (6, np.rot90(GREY, -1)),
        (7, GREY[::-1, ::-1].T),
        (8, np.rot90(GREY)),
        (9, GREY),
    ):
        exif[0x0112] = orientation
        for name in ("x.png", "x.tif"):
            Image.fromarray(GREY).save(tmp_path / name, exif=exif)
            np.testing.assert_array_equal(read_image(tmp_path / name)[:, :, 0], turned)


def test_a_picture_whose_exif_is_odd_is_read_and_turned(tmp_path: Path) -> None:
    # Orientation 6, and an artist who is a fraction.
    fields = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHIf", 0x013B, 11, 1, 0.5)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + fields + bytes(4)
    Image.fromarray(GREY).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (3, 2, 1)


def test_a_pillow_image_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.jpg")
    torn = (tmp_path / "x.jpg").read_bytes()[:-600]
    with Image.open(io.BytesIO(torn)) as picture, pytest.raises(DataError, match="cannot read the picture"):
        as_pixels(picture, tiny_card())


def test_what_is_no_picture_is_said_without_an_address_in_memory(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("<html>")
    for source in (tmp_path / "x.png", b"<html>"):
        with pytest.raises(DataError, match=r"^cannot read the image.*: it is no picture of a format"):
            read_image(source)


def test_what_the_web_calls_a_jpg_may_be_broken_avif(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.jpg", "AVIF")
    assert read_image(tmp_path / "x.jpg").shape == (2, 3, 1)
    whole = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(whole.replace(b"pitm", b"free"))
    with pytest.raises(DataError, match=r"cannot read the image .*x\.jpg"):
        read_image(tmp_path / "x.jpg")


def test_every_mode_is_read_alike(tmp_path: Path) -> None:
    picture = Image.new("RGB", (9, 7), (200, 90, 30))
    for mode, kind in (
        ("RGB", "bmp"),
        ("P", "png"),
        ("P", "gif"),
        ("RGBA", "webp"),
        ("CMYK", "jpg"),
        ("RGBA", "png"),
    ):
        converted = picture.quantize(16) if mode == "P" else picture.convert(mode)
        converted.save(tmp_path / f"x.{kind.upper()}", lossless=True, quality=100)
        found = read_image(tmp_path / f"x.{kind.upper()}", (14, 18), 3)
        assert found.shape == (14, 18, 3)
        assert np.abs(found.astype(int) - (200, 90, 30)).max() <= 6, (mode, kind)


@pytest.mark.parametrize("suffix", ["jfif", "avif", "pbm", "pgm", "ppm"])
def test_rarer_formats_are_not_passed_over(tmp_path: Path, suffix: str) -> None:
    mode = {"pbm": "1", "pgm": "L"}.get(suffix, "RGB")
    Image.new(mode, (24, 16), "white").save(tmp_path / f"x.{suffix}")
    assert image_files(tmp_path) == [tmp_path / f"x.{suffix}"]
    assert read_image(tmp_path / f"x.{suffix}", (16, 24), 3).min() >= 250


def test_a_folder_is_looked_through_for_what_is_meant_to_be_seen(tmp_path: Path) -> None:
    for name in (
        "b.PNG",
        "a.jpg",
        "sub/é 犬.webp",
        "._a.jpg",
        ".cache/c.png",
        ".DS_Store",
        "Thumbs.db",
        "notes.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.gif").symlink_to("nowhere.gif")  # named as unreadable, not passed over
    (tmp_path / "linked").symlink_to(".cache")
    (tmp_path / ".cache" / "back").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)]
    assert found == ["a.jpg", "b.PNG", "gone.gif", "linked/c.png", "sub/é 犬.webp"]


def test_one_image_and_fitting_many(tmp_path: Path) -> None:
    Image.new("L", (10, 20), 77).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").shape == (20, 10, 1)
    image = read_image(tmp_path / "x.png", (16, 24), 3)
    assert image.shape == (16, 24, 3)
    assert np.unique(image).tolist() == [77]
    fitted = fit_images(np.full((2, 5, 5, 1), 8, np.uint8), tiny_card())
    assert fitted.shape == (2, 16, 24, 3)
    assert np.unique(fitted).tolist() == [8]
    with pytest.raises(DataError, match=r"nothing\.png"):
        read_image(tmp_path / "nothing.png")


def test_a_network_of_four_channels_has_no_pictures() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (4, 4)).save(out, "PNG")
    with pytest.raises(DataError, match="the network takes 4"):
        read_image(out.getvalue(), (4, 4), 4)
