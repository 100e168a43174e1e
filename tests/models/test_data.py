import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from splitpoint.errors import DataError, UsageError
from splitpoint.models.data import Dataset, load_data

from .conftest import tiny_card


def _picture(value: int, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, value if mode == "L" else (value, value // 2, 0))


def _bytes(picture: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def _parquet(path: Path, images: list[object], labels: list[object], names: list[str] | None = None) -> Path:
    table = pa.table({"image": images, "label": labels})
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, path)
    return path


def test_parquet_with_bytes_of_png_and_jpeg(tmp_path: Path) -> None:
    images: list[object] = [_bytes(_picture(200)), _bytes(_picture(100), "JPEG")]
    data = load_data(_parquet(tmp_path / "d.parquet", images, [1, 0], ["cat", "dog"]))
    assert data.images.shape == (2, 16, 24, 3)
    assert data.labels.tolist() == [1, 0]
    assert data.classes == ("cat", "dog")
    assert data.images[0, 0, 0].tolist() == [200, 100, 0]
    assert abs(int(data.images[1, 5, 5, 0]) - 100) < 4


def test_parquet_with_structs_as_hugging_face_writes_them(tmp_path: Path) -> None:
    images: list[object] = [{"bytes": _bytes(_picture(9, mode="L")), "path": None}]
    data = load_data(_parquet(tmp_path / "d.parquet", images, [3]))
    assert data.images.shape == (1, 16, 24, 1)
    assert data.classes == ()


def test_images_get_the_models_size_and_channels(tmp_path: Path) -> None:
    images: list[object] = [_bytes(_picture(90, (50, 40), "L")), _bytes(_picture(90, (7, 9)))]
    path = _parquet(tmp_path / "d.parquet", images, [0, 3])
    data = load_data(path, card=tiny_card())
    assert data.images.shape == (2, 16, 24, 3)
    assert data.images[0, 3, 3].tolist() == [90, 90, 90]
    with pytest.raises(DataError, match="different shapes"):
        load_data(path)


def test_image_folder_has_a_class_a_folder(tmp_path: Path) -> None:
    for name, value in (("b", 10), ("a", 20), ("a", 30)):
        (tmp_path / name).mkdir(exist_ok=True)
        _picture(value).save(tmp_path / name / f"{value}.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    data = load_data(tmp_path)
    assert data.classes == ("a", "b")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.images[:, 0, 0, 0].tolist() == [20, 30, 10]


def test_folders_named_like_the_models_classes_mean_them(tmp_path: Path) -> None:
    for name in ("d", "b"):
        (tmp_path / name).mkdir()
        _picture(10).save(tmp_path / name / "x.png")
    data = load_data(tmp_path, card=tiny_card())
    assert data.labels.tolist() == [1, 3]
    assert data.classes == ("a", "b", "c", "d")


def test_named_sets_are_read_from_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLITPOINT_DATA", raising=False)
    with pytest.raises(DataError, match="SPLITPOINT_DATA"):
        load_data("cifar10")
    (tmp_path / "cifar10").mkdir()
    _parquet(tmp_path / "cifar10" / "test.parquet", [_bytes(_picture(1, (32, 32)))], [7])
    assert load_data("cifar10", data_dir=tmp_path).labels.tolist() == [7]
    monkeypatch.setenv("SPLITPOINT_DATA", str(tmp_path))
    assert load_data("cifar10").images.shape == (1, 32, 32, 3)
    with pytest.raises(DataError, match=r"cifar10/train\.parquet"):
        load_data("cifar10", "train")


def test_a_calibration_split_is_kept_out_of_the_training_one(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    images: list[object] = [_bytes(_picture(place, (32, 32))) for place in range(50)]
    train = _parquet(tmp_path / "cifar10" / "train.parquet", images, [place % 10 for place in range(50)])
    shown = {
        split: load_data("cifar10", split, data_dir=tmp_path).images[:, 0, 0, 0].tolist()
        for split in ("train", "calibration")
    }
    assert (len(shown["train"]), len(shown["calibration"])) == (45, 5)
    assert sorted(shown["train"] + shown["calibration"]) == list(range(50))
    assert shown["calibration"] != list(range(45, 50))
    shutil.copy(train, tmp_path / "cifar10" / "calibration.parquet")
    assert len(load_data("cifar10", "train", data_dir=tmp_path)) == 50


def test_some_samples_are_the_first_but_of_a_folder_of_every_class() -> None:
    for labels, places in (([1, 0, 2, 0, 1, 2], [0, 1, 2]), ([2, 2, 0, 0, 1, 1], [0, 2, 4])):
        data = Dataset(np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), np.array(labels), ())
        assert data.some(3).images.ravel().tolist() == places
        assert data.some(3).labels.tolist() == [labels[place] for place in places]
        assert len(data.some(9)) == 6


def test_clutter_needs_no_files() -> None:
    data = load_data("clutter", "calibration")
    assert (len(data), data.images.shape[1:], len(data.classes)) == (891, (64, 64, 1), 10)


def test_clutters_digits_are_the_networks_classes_by_name() -> None:
    labels = load_data("clutter", "calibration").labels
    falling = load_data("clutter", "calibration", card=tiny_card(classes=tuple("9876543210")))
    assert falling.classes == tuple("9876543210")
    np.testing.assert_array_equal(falling.labels, 9 - labels)
    with pytest.raises(DataError, match="clutter: its class '0' is none of tiny's"):
        load_data("clutter", "calibration", card=tiny_card())


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ([b"not an image"], [0], "row 0"),
        ([None], [0], "no image bytes"),
        (["text"], [0], "no image bytes"),
        ([_bytes(_picture(1))], ["cat"], "'cat', not an integer"),
        ([_bytes(_picture(1))], [4], "4 classes"),
        ([_bytes(_picture(1))], [-1], "labels span -1"),
        ([_bytes(_picture(1))], pa.array([2**63 + 1], pa.uint64()), "not an integer"),
        ([_bytes(_picture(1))[:60]], [0], "cannot read row 0"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, images: list[object], labels: list[object], said: str) -> None:
    path = _parquet(tmp_path / "d.parquet", images, labels)
    with pytest.raises(DataError, match=said) as caught:
        load_data(path, card=tiny_card())
    assert str(path) in str(caught.value)


def test_bad_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "columns.parquet")
    (tmp_path / "flat").mkdir()
    (tmp_path / "empty" / "a").mkdir(parents=True)
    for name, said in (
        ("bad.parquet", "cannot read the parquet file"),
        ("columns.parquet", "columns 'image' and 'label'; it has: x"),
        ("flat", "no sub-folders"),
        ("empty", "no images"),
        ("absent.parquet", "no data at"),
    ):
        with pytest.raises(DataError, match=said):
            load_data(tmp_path / name)
    with pytest.raises(UsageError, match="did you mean 'clutter'"):
        load_data("cluter")
    with pytest.raises(UsageError, match="did you mean 'train'"):
        load_data("clutter", "trian")
