"""Named data sets from the Hugging Face hub, as parquet files of image bytes and labels."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, MissingExtra, UsageError, did_you_mean
from ..whole_file import whole_file
from .parquet_file import class_metadata, class_names

__all__ = ["HUB", "NEVER_FLIPPED", "fetch"]

HUB: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "cifar10": ("uoft-cs/cifar10", "img", "label", {"train": "plain_text/train", "test": "plain_text/test"}),
    "cifar100": (
        "uoft-cs/cifar100",
        "img",
        "fine_label",
        {"train": "cifar100/train", "test": "cifar100/test"},
    ),
    "mnist": ("ylecun/mnist", "image", "label", {"train": "mnist/train", "test": "mnist/test"}),
    "fashion_mnist": (
        "zalando-datasets/fashion_mnist",
        "image",
        "label",
        {"train": "fashion_mnist/train", "test": "fashion_mnist/test"},
    ),
}
"""Name: repository, column of the image, column of the label, and where each split's one file lies."""

NEVER_FLIPPED = ("mnist",)
"""Those of HUB whose images are something else in a mirror."""

_ONLY_FILE = "-00000-of-00001.parquet"


def _written(source: Path, image: str, label: str, path: Path) -> None:
    """The two columns under the names that `load_data` reads, with the labels' names, whole or not at all."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(source, columns=[image, label])
    names = class_names(table.schema, label)
    table = table.rename_columns(["image", "label"]).replace_schema_metadata(class_metadata(names))
    with whole_file(path, "data") as partial:
        parquet.write_table(table, partial)


def fetch(name: str, data_dir: Path) -> Path:
    """The folder data_dir/NAME with train.parquet and test.parquet, downloaded where they are not there yet.

    UsageError for a name that is not in HUB, DataError where there is no network or no room, MissingExtra
    without huggingface_hub.
    """
    if name not in HUB:
        raise UsageError(f"unknown data set '{name}'; {did_you_mean(name, HUB)}, or give --data-dir alone")
    folder = data_dir / name
    repository, image, label, files = HUB[name]
    missing = {split: file for split, file in files.items() if not (folder / f"{split}.parquet").exists()}
    if not missing:
        return folder
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra("downloading data", "sim") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, file in missing.items():
            source = hf_hub_download(repository, file + _ONLY_FILE, repo_type="dataset")
            _written(Path(source), image, label, folder / f"{split}.parquet")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"cannot download {name} from the Hugging Face hub ({reason}); "
            f"without a network, put train.parquet and test.parquet into {folder}"
        ) from error
    return folder
