"""Whose class is whose: names rule over numbers, and what cannot be matched is not guessed."""

import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from splitpoint.errors import DataError
from splitpoint.models.card import ModelCard
from splitpoint.models.classes import classes_of_folders, classes_of_labels
from splitpoint.models.data import load_data

from .conftest import tiny_card

HERE = Path("here")


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (24, 16)).save(out, "PNG")
    return out.getvalue()


def _parquet(path: Path, labels: list[int], names: list[str]) -> Path:
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    cells = [{"bytes": _png(), "path": None}] * len(labels)
    table = pa.table({"image": cells, "label": labels})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), path)
    return path


def _folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "x.png").write_bytes(_png())
    return root


def _plain(*classes: str) -> ModelCard:
    return tiny_card(classes=classes, exits=(4,), exit_kind="linear", exit_state_dim=0)


def test_labels_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "d.parquet", [0, 1, 1], ["d", "b"])
    data = load_data(path, card=tiny_card())
    assert data.labels.tolist() == [3, 1, 1]
    assert data.classes == ("a", "b", "c", "d")
    assert load_data(path).labels.tolist() == [0, 1, 1]


def test_names_that_say_nothing_leave_the_numbers_alone() -> None:
    assert classes_of_labels(("a", "b", "c", "d"), tiny_card(), HERE) is None
    assert classes_of_labels(("w", "x", "y", "z"), tiny_card(), HERE) is None
    assert classes_of_labels(("a", "x", "c"), tiny_card(), HERE) is None
    cranes = tiny_card(classes=("crane", "b", "crane", "d"))
    assert classes_of_labels(cranes.classes, cranes, HERE) is None


@pytest.mark.parametrize("names", [("b", "a", "x"), ("x", "a"), ("a", "a", "b")])
def test_names_that_half_fit_are_an_error(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"here: its class '\w' is none of tiny's"):
        classes_of_labels(names, tiny_card(), HERE)


def test_numbers_mean_the_classes_that_are_called_so(tmp_path: Path) -> None:
    table = pa.table({"image": [_png()] * 3, "label": [2, 10, 3]})
    parquet.write_table(table, tmp_path / "d.parquet")
    folders = tiny_card(classes=tuple(sorted(map(str, range(12)))))
    labels = load_data(tmp_path / "d.parquet", card=folders).labels
    assert [folders.classes[label] for label in labels] == ["2", "10", "3"]
    padded = tiny_card(classes=("02", "03", "10"))
    assert load_data(tmp_path / "d.parquet", card=padded).labels.tolist() == [0, 2, 1]
    with pytest.raises(DataError, match=r"d\.parquet: label 10 is none of tiny's classes 1\.\.3"):
        load_data(tmp_path / "d.parquet", card=tiny_card(classes=("1", "2", "3")))


def test_labels_without_a_name_are_an_error(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "d.parquet", [0, 2], ["a", "b"])
    with pytest.raises(DataError, match=r"labels span 0\.\.2, but only 2"):
        load_data(path, card=tiny_card())


def test_folders_that_are_no_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'dog' is none of tiny's"):
        load_data(_folders(tmp_path / "x", "a", "dog"), card=tiny_card())
    # As many as classes, but who is who?
    with pytest.raises(DataError, match="'one' is none"):
        classes_of_folders(("one", "three", "two", "zero"), tiny_card(), HERE)


def test_a_plain_vit_takes_as_many_folders_as_it_has_classes_in_order() -> None:
    folders = ("n01440764", "n01443537")
    assert classes_of_folders(folders, _plain("0", "1"), HERE) == [0, 1]
    assert classes_of_folders(folders, _plain("LABEL_0", "LABEL_1"), HERE) == [0, 1]
    for card in (_plain("0", "1", "2"), _plain("tench", "goldfish")):
        with pytest.raises(DataError, match="'n01440764' is none"):
            classes_of_folders(folders, card, HERE)


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    data = load_data(_folders(tmp_path, ".ipynb_checkpoints", "cat", "犬"))
    assert (data.classes, data.labels.tolist()) == (("cat", "犬"), [0, 1])


def test_a_class_has_a_name_that_can_be_written(tmp_path: Path) -> None:
    # As zip archives of other systems leave them.
    with pytest.raises(DataError, match=r"the folder 'caf\\udce9' is not named in UTF-8") as caught:
        load_data(_folders(tmp_path, "b", os.fsdecode(b"caf\xe9")))
    assert str(caught.value).encode()


def test_splits_are_no_classes(tmp_path: Path) -> None:
    root = _folders(tmp_path, "test/a", "train/a")
    for card in (None, tiny_card(), _plain("0", "1")):
        with pytest.raises(DataError, match="divided into test, train: name one"):
            load_data(root, card=card)
    assert load_data(root / "test", card=tiny_card()).labels.tolist() == [0]
    with pytest.raises(DataError, match="divided into Train, Valid, extra: name one"):
        load_data(_folders(tmp_path / "more", "Train/a", "Valid/a", "extra/a"))
    assert load_data(_folders(tmp_path / "class", "bus", "train")).classes == ("bus", "train")


def test_a_class_without_images_is_only_good_for_a_network_that_knows_it(tmp_path: Path) -> None:
    (_folders(tmp_path, "a", "c") / "b").mkdir()
    assert load_data(tmp_path, card=tiny_card()).labels.tolist() == [0, 2]
    with pytest.raises(DataError, match=r"no images in .*b: no network can learn"):
        load_data(tmp_path)


def test_parts_of_one_set_are_read_together(tmp_path: Path) -> None:
    for part, labels in enumerate(([0, 1], [3])):
        _parquet(tmp_path / f"train-0000{part}-of-00002.parquet", labels, ["a", "b", "c", "d"])
    pattern = tmp_path / "train-*.parquet"
    assert load_data(pattern, card=tiny_card()).labels.tolist() == [0, 1, 3]
    with pytest.raises(DataError, match=r"holds train-0000\d-of-00002.parquet: .* pattern"):
        load_data(tmp_path)
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="means 1 files, by their names parts of 2"):
        load_data(pattern)
    _parquet(tmp_path / "train-00000-of-00002.parquet", [0], ["a"])
    with pytest.raises(DataError, match="name their labels differently"):
        load_data(pattern)
    with pytest.raises(DataError, match="there is no data at"):
        load_data(tmp_path / "test-*.parquet")
