"""The commands that train: `splitpoint train`, `train-codec`, `train-jscc` and `train-gates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..options import AcceleratorName, AcceleratorOption, checked, need_sim
from .measure_command import TRAINING_DATA_HELP, own_set

__all__ = ["train", "train_codec", "train_gates", "train_jscc"]


def train(
    name: Annotated[
        str, typer.Argument(help="Which network: clutter, which it is by itself, or cifar10.")
    ] = "",
    model: Annotated[
        str, typer.Option(help="An own model to start from instead: a timm, Hugging Face or splitpoint file.")
    ] = "",
    data: Annotated[
        str,
        typer.Option(help="With --model: a named set (cifar100, mnist, ...), downloaded into --data-dir."),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for weights, checkpoint and logs, or a file X.safetensors; runs/train-NAME by itself."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where named sets lie; with --model the image folder or parquet file itself."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    epochs: Annotated[int | None, typer.Option(min=2, help="Shorter or longer than the default.")] = None,
    regime: Annotated[
        str, typer.Option(help="Which part learns when: mixed, joint, or disjoint on a frozen backbone.")
    ] = "mixed",
    flip: Annotated[
        bool | None,
        typer.Option(
            help="Show mirror images too; not for text and digits.", show_default="as the model was trained"
        ),
    ] = None,
    accelerator: AcceleratorOption = AcceleratorName.auto,
) -> None:
    """Train a network; a run that was killed goes on where it was when started again.

    With --split-learning the tail is trained on a server; `splitpoint train --split-learning --help`.
    """
    need_sim("training")
    from .own import own_config
    from .store import load_network
    from .train import train as train_network
    from .train_config import network_config

    options: dict[str, Any] = {
        "seed": seed,
        "epochs": epochs,
        "regime": regime,
        "accelerator": accelerator.value,
    }
    if data and not model:
        raise UsageError("--data is what an own model is trained on: give --model too")
    if model and name:
        raise UsageError(f"both a network, '{name}', and --model {model}: give one of them")
    if data_dir is not None and not (model or name):
        raise UsageError("--data-dir: clutter needs none; name the network that is trained on it, or --model")
    if flip is not None:
        options["flip"] = flip
    if not model:
        name = name or "clutter"
        if name == "clutter" and flip is not None:
            raise UsageError("--flip: the canvases of clutter are drawn, and never mirrored")
        config = checked(network_config, name=name, **options)
        print(train_network(config, out or Path("runs") / f"train-{name}", data_dir))
        return
    own = Path(model).stem
    if data:
        from .download import NEVER_FLIPPED, fetch

        if data in NEVER_FLIPPED:
            options.setdefault("flip", False)
        data_dir = fetch(data, data_dir or Path("runs") / "data")
        own = f"{own}-{data}"
    base = load_network(model, without_classifier=True)[1]
    config = checked(own_config, model=model, base=base, name=own, **options)
    print(train_network(config, out or Path("runs") / f"train-{own}", data_dir, model))


def train_codec(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    out: Annotated[Path, typer.Option(help="The file of the model with the new codec, NAME.safetensors.")],
    data: Annotated[str, typer.Option(help=TRAINING_DATA_HELP)] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    cut: Annotated[
        list[int] | None,
        typer.Option(help="Cuts whose bottleneck learns; repeat for more. All by themselves."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Fewer or more for each cut than the default.")
    ] = None,
    rest: Annotated[
        bool, typer.Option(help="Send a token that stands for all patches that are not sent.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    accelerator: AcceleratorOption = AcceleratorName.auto,
) -> None:
    """Train a model's bottlenecks and code tables for fewer bytes; its network stays as it is.

    No labels are read: the network is its own teacher. A run that was killed goes on where it was.
    """
    need_sim("training a codec")
    from .codec_command import train_codec as train
    from .codec_train import CodecConfig

    chosen = {} if steps is None else {"steps": steps}
    config = checked(
        CodecConfig, cuts=tuple(cut or ()), rest=rest, seed=seed, accelerator=accelerator.value, **chosen
    )
    print(train(model, config, out, data=data or own_set(model), data_dir=data_dir))


def train_jscc(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")] = "clutter",
    data: Annotated[str, typer.Option(help=TRAINING_DATA_HELP)] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    cut: Annotated[list[int] | None, typer.Option(help="Cuts that get a code; repeat for more.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Fewer or more for each cut than the default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    accelerator: AcceleratorOption = AcceleratorName.auto,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints.")] = Path("runs/train-jscc"),
) -> None:
    """Train joint source-channel codes, which send tokens as noisy symbols; they go beside the model's file.

    A run that was killed goes on where it was when started again.
    """
    need_sim("training codes")
    from .jscc_command import train_codes
    from .jscc_train import JsccConfig

    chosen = {} if steps is None else {"steps": steps}
    config = checked(JsccConfig, cuts=tuple(cut or (1,)), seed=seed, accelerator=accelerator.value, **chosen)
    print(train_codes(model, config, out, data=data or own_set(model), data_dir=data_dir))


def train_gates(
    model: Annotated[str, typer.Argument(help="A named model or its safetensors.")],
    out: Annotated[Path, typer.Option(help="The file of the network with gates, NAME.safetensors.")],
    data: Annotated[str, typer.Option(help=TRAINING_DATA_HELP)] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Where named sets lie.")] = None,
    steps: Annotated[
        int,
        typer.Option(min=0, help="Steps that network and gates learn together; 0: gates are fitted only."),
    ] = 0,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    accelerator: AcceleratorOption = AcceleratorName.auto,
) -> None:
    """Give a network a budget token and gates: it drops patches on the device, one network for every keep.

    A run that was killed goes on where it was when started again.
    """
    need_sim("training gates")
    from .gate_command import train_gates as train
    from .gate_train import GateConfig

    config = checked(GateConfig, seed=seed, steps=steps, batch=batch, accelerator=accelerator.value)
    print(train(model, config, out, data=data or own_set(model), data_dir=data_dir, threads=threads))
