"""Named sets from the hub: fetched once, under the names that are read; without a network said in one line."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from splitpoint.errors import DataError, UsageError
from splitpoint.models.download import HUB, fetch
from splitpoint.models.parquet_file import class_names


def test_a_download_is_renamed_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(repository: str, file: str, repo_type: str) -> str:
        asked.append(f"{repo_type} {repository} {file}")
        path = tmp_path / "hub.parquet"
        table = pa.table({"img": [b"x"], "fine_label": [1], "coarse_label": [0]})
        features = {"fine_label": {"names": ["apple", "bee"], "_type": "ClassLabel"}}
        about = {"huggingface": json.dumps({"info": {"features": features}})}
        parquet.write_table(table.replace_schema_metadata(about), path)
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for _ in range(2):
        assert fetch("cifar100", tmp_path) == tmp_path / "cifar100"
    assert asked == [
        f"dataset uoft-cs/cifar100 cifar100/{split}-00000-of-00001.parquet" for split in ("train", "test")
    ]
    table = parquet.read_table(tmp_path / "cifar100" / "test.parquet")
    assert table.to_pydict() == {"image": [b"x"], "label": [1]}
    assert class_names(table.schema, "label") == ("apple", "bee")


def test_no_network_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise OSError("Name or service not known\nmore")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(
        DataError, match=r"cannot download mnist .*not known\); without a network, put"
    ) as caught:
        fetch("mnist", tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="did you mean 'cifar100'"):
        fetch("cifar1000", tmp_path)
    assert "torchvision" not in sys.modules
    assert set(HUB) >= {"cifar10", "cifar100"}
