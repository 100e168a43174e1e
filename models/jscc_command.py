"""`splitpoint train-jscc`: joint source-channel codes for a model, one for each cut asked for, beside its file."""

from __future__ import annotations

from pathlib import Path

from ..whole_file import check_writable
from .accelerator import training_device
from .activations import check_cuts
from .joint_file import JOINT, joint_path
from .jscc_train import JsccConfig, train_code
from .step_bar import step_bar
from .store import codec_arrays, load_network, resolve, save_codes
from .training_views import training_views

__all__ = ["train_codes"]


def train_codes(
    model: str | Path, config: JsccConfig, work: Path, *, data: str = "clutter", data_dir: Path | None = None
) -> Path:
    """Train the codes of all cuts of `config`, with a bar and, without a terminal, lines on stderr; returns their file.

    Codes of other cuts that are there stay.

    work  folder of the checkpoints, from which a later call goes on

    Before anything is trained: UsageError as of `check_cuts`, DataError where nothing can be written,
    or what is there is broken.
    """
    network, card = load_network(model)
    check_cuts(card, config.cuts)
    check_writable(joint_path(resolve(model)), "joint codes")
    network.to(training_device(config.accelerator))
    views = training_views(data, card, config.seed, data_dir)
    arrays = {name: array for name, array in codec_arrays(resolve(model)).items() if name.startswith(JOINT)}
    with step_bar() as begin:
        for cut in config.cuts:
            tick = begin(f"code at cut {cut}", config.steps)
            code = train_code(network, views, config, cut, work, tick)
            arrays |= {f"{JOINT}{cut}.{name}": array for name, array in code.arrays().items()}
    record = config.model_dump(exclude={"accelerator"}, mode="json") | {"data": data}
    return save_codes(resolve(model), arrays, record)
