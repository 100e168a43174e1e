"""`splitpoint device`: a folder of images, answered one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..codec.image import LOSSLESS
from ..errors import DataError
from ..json_text import json_text
from ..models.images import image_files
from ..protos.client import Tls
from .client import Client
from .result import Result

__all__ = ["run_images"]


@dataclass
class _Tally:
    """What the summary says; `right` holds one entry for each image in a folder named like a class."""

    latencies_s: list[float] = field(default_factory=list)
    local: int = 0
    degraded: int = 0
    late: int = 0
    policy_replaced: int = 0
    uplink_bytes: int = 0
    unreadable: int = 0
    right: list[bool] = field(default_factory=list)

    def add(self, result: Result, right: bool | None) -> None:
        self.latencies_s.append(result.latency_s)
        self.local += result.local
        self.degraded += result.degraded
        self.late += result.late
        self.policy_replaced += result.policy_replaced
        self.uplink_bytes += result.uplink_bytes
        if right is not None:
            self.right.append(right)

    def summary(self) -> dict[str, Any]:
        count = len(self.latencies_s)
        p50, p95 = np.quantile(self.latencies_s, (0.5, 0.95)).tolist() if count else (None, None)
        return {
            "images": count,
            "unreadable": self.unreadable,
            "local": self.local,
            "degraded": self.degraded,
            "late": self.late,
            "policy_replaced": self.policy_replaced,
            "latency_p50_s": p50,
            "latency_p95_s": p95,
            "uplink_bytes_mean": self.uplink_bytes / count if count else None,
            "accuracy": sum(self.right) / len(self.right) if self.right else None,
        }


def run_images(
    model: str,
    server: str,
    images: Path,
    *,
    deadline_s: float,
    index: int = 0,
    tls: Tls | None = None,
    remote: bool = False,
    image_format: str = LOSSLESS,
    as_json: bool = False,
) -> None:
    """Print a row for each image under `images` and a summary; as_json: an object a line, the summary last; remote:
    the server decides; image_format: as of `Client`.

    Where an image's folder is named like one of the network's classes, its answer is checked. Images that cannot
    be read are named on stderr and left out. Raises DataError where there is none, or none that can be read.
    """
    files = list(_image_files(images))
    tally = _Tally()
    errors = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Client(
            server,
            model,
            policy="remote" if remote else None,
            deadline_s=deadline_s,
            device=index,
            image_format=image_format,
            tls=tls,
        ) as client,
        Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar,
    ):
        if not client.link_up:
            errors.print(f"answering locally for now: {client.last_error}", markup=False, soft_wrap=True)
        if not as_json:
            print(_row("image", "answer", "margin", "where", "ms", "bytes"))
        task = bar.add_task(f"{client.card.name} at {server}", total=len(files))
        for file in files:
            try:
                result = client.infer(file)
            except DataError as error:
                tally.unreadable += 1
                errors.print(str(error), markup=False, soft_wrap=True)
                continue
            finally:
                bar.advance(task)
            label = file.parent.name
            right = result.class_name == label if label in client.card.classes else None
            tally.add(result, right)
            name = str(file.relative_to(images) if file != images else file)
            print(_json(name, result, right) if as_json else _table_row(name, result, right), flush=True)
    summary = tally.summary()
    if as_json:
        print(json_text({"summary": summary}))
    elif summary["images"]:
        print(_sentence(summary))
    sys.stdout.flush()
    if not summary["images"]:
        raise DataError(f"no image was answered: none in {images} can be read")


def _image_files(images: Path) -> Iterator[Path]:
    if images.is_file():
        yield images
        return
    if not images.is_dir():
        raise DataError(f"there is no folder of images {images}")
    found = image_files(images)
    if not found:
        raise DataError(f"there are no images in {images}")
    yield from found


def _json(name: str, result: Result, right: bool | None) -> str:
    fields = asdict(result) | {"where": result.where}
    return json_text({"image": name, **fields, "correct": right})


def _table_row(name: str, result: Result, right: bool | None) -> str:
    answer = result.class_name + {True: " ok", False: " wrong", None: ""}[right]
    where = result.where + (" degraded" if result.degraded else "") + (" late" if result.late else "")
    ms = f"{result.latency_s * 1e3:.1f}"
    return _row(name, answer, f"{result.margin:.3f}", where, ms, str(result.uplink_bytes))


def _row(name: str, answer: str, margin: str, where: str, ms: str, nbytes: str) -> str:
    return f"{name:<28} {answer:<12} {margin:>7} {where:<20} {ms:>8} {nbytes:>7}".rstrip()


def _sentence(summary: dict[str, Any]) -> str:
    accuracy = "" if summary["accuracy"] is None else f", {summary['accuracy']:.1%} right"
    unreadable = f", {summary['unreadable']} unreadable" if summary["unreadable"] else ""
    replaced = f", {summary['policy_replaced']} Decisions replaced" if summary["policy_replaced"] else ""
    images = "1 image" if summary["images"] == 1 else f"{summary['images']} images"
    return (
        f"{images}{accuracy}: {summary['local']} answered here ({summary['degraded']} degraded), "
        f"{summary['late']} late, p50 {summary['latency_p50_s'] * 1e3:.1f} ms, "
        f"p95 {summary['latency_p95_s'] * 1e3:.1f} ms, {summary['uplink_bytes_mean']:.0f} bytes sent for each"
        f"{replaced}{unreadable}"
    )
