"""The commands that measure a network: `splitpoint evaluate`, `profile` and `tables`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..json_text import json_text
from ..options import ImageFormatOption, Json, need_sim

__all__ = ["TRAINING_DATA_HELP", "evaluate", "own_set", "profile", "tables"]

_DATA_HELP = "Parquet file, image folder or named set; a built-in model's own set by itself."
TRAINING_DATA_HELP = (
    "Named set (its training split), parquet or folder; a built-in model's own set by itself."
)


class SplitName(StrEnum):
    calibration = "calibration"
    evaluation = "evaluation"


def evaluate(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    data: Annotated[str, typer.Option(help=_DATA_HELP)] = "",
    split: Annotated[SplitName, typer.Option(help="Of a named set.")] = SplitName.evaluation,
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    json_: Json = False,
) -> None:
    """Accuracy, multiply-accumulates and time at every exit."""
    need_sim("evaluating a network")
    from .data import load_data
    from .evaluate import evaluate as evaluate_network
    from .store import load_network

    network, card = load_network(model)
    data = data or own_set(model)
    result = evaluate_network(network, card, load_data(data, split.value, card=card, data_dir=data_dir))
    if json_:
        print(json_text(result))
        return
    _table(
        f"{card.name} on {data}: {result['samples']} samples",
        ["exit after block", "accuracy", "mean margin", "M MACs", "ms at batch 1"],
        [
            [
                str(e["after_block"]),
                f"{e['accuracy']:.4f}",
                f"{e['margin_mean']:.3f}",
                f"{e['macs'] / 1e6:.1f}",
                f"{e['time_s'] * 1e3:.2f}",
            ]
            for e in result["exits"]
        ],
    )


def profile(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    split: Annotated[SplitName, typer.Option(help="Which profile, for a named set.")] = SplitName.calibration,
    data: Annotated[str, typer.Option(help=_DATA_HELP)] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: beside the model, NAME.SPLIT.npz.")] = None,
    keep: Annotated[list[float] | None, typer.Option(help="Grid of keep; repeat for more.")] = None,
    dims: Annotated[list[int] | None, typer.Option(help="Grid of dims; repeat for more.")] = None,
    bits: Annotated[list[int] | None, typer.Option(help="Grid of bits; repeat for more.")] = None,
    refine_keep: Annotated[
        list[float] | None,
        typer.Option(help="What lower keeps are refined to; repeat for more. Default none."),
    ] = None,
    coder: Annotated[str, typer.Option(help="packed or ans.")] = "packed",
    image_format: ImageFormatOption = "png",
    samples: Annotated[int | None, typer.Option(min=1, help="Only so many; default all.")] = None,
) -> None:
    """Measure a Profile: answers, margins and bytes of every sample on a grid of cuts and compressions."""
    need_sim("measuring a profile")
    from .measure import measure_file

    path = measure_file(
        model,
        split.value,
        data or own_set(model),
        data_dir=data_dir,
        out=out,
        keeps=keep,
        dims=dims,
        bits=bits,
        refine_keeps=refine_keep,
        coder=coder,
        image_format=image_format,
        samples=samples,
    )
    print(path)


def tables(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    data: Annotated[str, typer.Option(help=TRAINING_DATA_HELP)] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to fit the tables to.")] = 96,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Another file; by default the model's own.")] = None,
) -> None:
    """Fit the entropy coder's tables on training data and put them into a model's file; its id stays."""
    need_sim("fitting code tables")
    from .code_tables import fit_model_tables

    data = data or own_set(model)
    print(fit_model_tables(model, data, data_dir=data_dir, samples=samples, seed=seed, out=out))


def own_set(model: str) -> str:
    """The named set that a built-in model was trained on. UsageError for a file, which does not tell.

    Errors as of `resolve` where there is no such model: that is said before the data are asked for.
    """
    from .store import built_in_models, resolve

    resolve(model)
    if model not in built_in_models():
        raise UsageError(f"--data: what to run {model} on; a parquet file, an image folder or a named set")
    return model.split("-")[0]


def _table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
