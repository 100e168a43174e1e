"""Accuracy against SNR: one nested joint code, one dedicated pair for each rate, and images at Shannon capacity.

    python benchmarks/jscc_snr.py                                     # clutter
    python benchmarks/jscc_snr.py --model cifar10 --data-dir DIR      # where its weights are there

AWGN; r symbols a token over d, at a cut before the first exit, so that nothing but symbols is on the air. The dedicated
pairs are the same module with M = r d symbols, trained for --steps each, resumable in --work; the nested code, which
does the work of all of them, for as many steps as they together, or for --nested-steps: with as many as --steps a pair
has learnt its one rate as long as the nested code all of them. It is the one beside the model, where one was trained
like this (`splitpoint train-jscc` puts it there). Noise is the same for nested and dedicated codes. The rivals
(`capacity_rivals.py`) get what as many channel uses carry at capacity. The last exit answers. Thresholds and the
rivals' settings come from the calibration split, figures from the evaluation split; the spread is that of the noise
draws.

Bars: nested at most 1 point below dedicated; above the best rival where that is more than 2 points below clean,
within 1 point of it elsewhere. Writes results/jscc_snr_MODEL.json and .png
(jscc_snr_MODEL-nested-N-pairs-M where --nested-steps is given); the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from capacity_rivals import KINDS, Rivals, budget_bytes
from command_line import command_line, run
from jscc_figures import plot, show
from rich.progress import track

from splitpoint.codec.symbols import SymbolCodec, symbol_count
from splitpoint.models.activations import Activations, activations, tail_logits
from splitpoint.models.card import read_metadata
from splitpoint.models.compression import select
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.evaluate import exit_logits
from splitpoint.models.joint_file import joint_path
from splitpoint.models.jscc import JointCode, through_noise
from splitpoint.models.jscc_train import JsccConfig, train_code
from splitpoint.models.measure import images_id
from splitpoint.models.recursion import prediction
from splitpoint.models.store import codec_arrays, load_network, resolve
from splitpoint.models.training_views import training_views
from splitpoint.models.vit import SplitViT
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.seeding import generator

RESULTS = Path(__file__).parent / "results"
RATES = (0.5, 0.25, 0.1, 0.05)
SNRS_DB = tuple(float(snr) for snr in range(-20, 21, 5))
SEED = 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="clutter")
    parser.add_argument("--data", help="the model's own by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cut", type=int, help="the deepest before the first exit by default")
    parser.add_argument("--keep", type=float, default=0.25)
    parser.add_argument("--steps", type=int, default=2400, help="of each pair")
    parser.add_argument("--nested-steps", type=int, help="as many as all pairs together by default")
    parser.add_argument("--noises", type=int, default=3, help="noise draws of each image and SNR")
    parser.add_argument("--images", type=int, help="evaluation images, evenly taken; all by default")
    parser.add_argument("--work", type=Path, default=Path("runs/jscc-snr"))
    return parser.parse_args()


def trained(network: SplitViT, views: Any, config: JsccConfig, cut: int, folder: Path) -> JointCode:
    def tick(step: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"{folder.name} step {step}/{config.steps} loss {loss:.3f}", flush=True)

    return narrowed(train_code(network, views, config, cut, folder, tick))


def narrowed(code: JointCode) -> JointCode:
    """With the float16 weights that a file has."""
    code.read({name: array.astype(np.float16) for name, array in code.arrays().items()})
    return code.eval()


def shipped(arrays: dict[str, np.ndarray], cut: int, dim: int) -> JointCode | None:
    """The nested code beside the model."""
    mine = {k.split(".", 2)[2]: v for k, v in arrays.items() if k.startswith(f"jscc.{cut}.")}
    if not mine:
        return None
    code = JointCode(dim, mine["encoder.skip.weight"].shape[1] // 2, mine["encoder.enter.weight"].shape[1])
    code.read(mine)
    return code.eval()


def as_here(model: Path, config: JsccConfig, source: str) -> bool:
    """Whether the codes beside the model were trained by this configuration."""
    path = joint_path(model)
    if not path.exists():
        return False
    wanted = config.model_dump(exclude={"accelerator", "cuts"}, mode="json") | {"data": source}
    found = json.loads(read_metadata(path)["training"])
    return {name: found.get(name) for name in wanted} == wanted


@torch.inference_mode()
def accuracy(
    network: SplitViT,
    code: JointCode,
    known: Activations,
    cut: int,
    keep: float,
    symbols: int,
    snr_db: float,
    draw: int,
) -> float:
    """Share of right answers at the last exit over one draw of the noise."""
    right = 0
    for start in range(0, len(known.labels), 250):
        here = known.at(torch.arange(start, min(start + 250, len(known.labels))))
        x = select(here.tokens.float(), here.scores, keep)
        noise = _noise(network, cut, x.shape, draw, start)[:, :, : code.symbols]
        snr, m = torch.full((len(x),), snr_db), torch.full((len(x),), float(symbols))
        received = through_noise(code.encode(x, snr, m), noise, snr, m)
        logits = tail_logits(network, code.decode(received, snr, m), cut, here)[-1]
        right += int((logits.argmax(dim=1) == here.labels).sum())
    return right / len(known.labels)


def _noise(network: SplitViT, cut: int, shape: tuple[int, ...], draw: int, start: int) -> torch.Tensor:
    # Drawn for the highest rate: a lower one sees the beginning, as does a dedicated pair.
    most = symbol_count(network.card.dim, max(RATES))
    rng = generator(SEED, "jscc-evaluation", cut, draw, start)
    return torch.from_numpy(rng.standard_normal((*shape[:2], most, 2), dtype=np.float32))


@torch.inference_mode()
def wire_agreement(
    network: SplitViT,
    arrays: dict[str, np.ndarray],
    known: Activations,
    cut: int,
    keep: float,
    count: int = 60,
) -> float:
    """Share of equal answers by numpy's codec, float16 messages included, and by torch at r = .1 and 0 dB."""
    codec, card = SymbolCodec(arrays), network.card
    code = shipped(arrays, cut, card.dim)
    assert code is not None
    m, equal, count = symbol_count(card.dim, 0.1), 0, min(count, len(known.labels))
    for row in range(count):
        here = known.at(torch.arange(row, row + 1))
        x = select(here.tokens.float(), here.scores, keep)
        noise = _noise(network, cut, x.shape, 0, row)[:, :, : code.symbols]
        snr, symbols = torch.zeros(1), torch.full((1,), float(m))
        by_torch = code.decode(through_noise(code.encode(x, snr, symbols), noise, snr, symbols), snr, symbols)
        message, _ = codec.encode(here.tokens[0].float().numpy(), here.scores[0].numpy(), cut, keep, 0.1, 0.0)
        sent = np.frombuffer(message.values, "<f2").astype(np.float32)
        added = sent + np.sqrt(0.5) * noise[0, :, :m].numpy().ravel()
        on_wire = pb.Symbols()
        on_wire.CopyFrom(message)
        on_wire.values = added.astype("<f2").tobytes()
        by_wire = torch.from_numpy(codec.decode(on_wire, cut))[None]
        answers = [tail_logits(network, tokens, cut, here)[-1].argmax() for tokens in (by_torch, by_wire)]
        equal += bool(answers[0] == answers[1])
    return equal / count


def subset(data: Dataset, count: int | None) -> Dataset:
    if count is None or count >= len(data):
        return data
    rows = np.linspace(0, len(data), count, endpoint=False).astype(int)
    return Dataset(data.images[rows], data.labels[rows], data.classes)


def codes(
    given: argparse.Namespace, network: SplitViT, cut: int, source: str, work: Path
) -> tuple[JointCode, str, dict[str, np.ndarray], dict[float, JointCode]]:
    """The nested code, where it is from, the model's arrays with it, and the dedicated pair of each rate."""
    views = training_views(source, network.card, SEED, given.data_dir)
    config = JsccConfig(seed=SEED, steps=given.steps)
    for_all = config.model_copy(update={"steps": given.nested_steps or given.steps * len(RATES)})
    model = resolve(given.model)
    arrays = dict(codec_arrays(model))
    nested = shipped(arrays, cut, network.card.dim) if as_here(model, for_all, source) else None
    nested_from = "the file beside the model"
    if nested is None:
        nested, nested_from = trained(network, views, for_all, cut, work / "nested"), "this run"
        arrays |= {f"jscc.{cut}.{name}": array for name, array in nested.arrays().items()}
    pairs = {
        rate: trained(
            network,
            views,
            config.model_copy(update={"symbols": rate, "dedicated": True}),
            cut,
            work / f"rate-{rate:g}",
        )
        for rate in RATES
    }
    return nested, nested_from, arrays, pairs


def compared(
    network: SplitViT,
    both: tuple[JointCode, JointCode],
    known: Activations,
    cut: int,
    given: argparse.Namespace,
    rate: float,
    snr_db: float,
) -> dict[str, Any]:
    """What the nested code and the rate's dedicated pair come to at an SNR, over the noise draws."""
    m = symbol_count(network.card.dim, rate)
    draws = np.array(
        [
            [accuracy(network, code, known, cut, given.keep, m, snr_db, draw) for code in both]
            for draw in range(given.noises)
        ]
    )
    uses = (network.card.kept(given.keep) + 1) * m
    return {
        "rate": rate,
        "snr_db": snr_db,
        "channel_uses": uses,
        "capacity_bytes": budget_bytes(uses, snr_db),
        "nested": float(draws[:, 0].mean()),
        "nested_spread": float(draws[:, 0].std(ddof=1)) if given.noises > 1 else None,
        "dedicated": float(draws[:, 1].mean()),
    }


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    began = time.perf_counter()
    network, card = load_network(given.model)
    cut = given.cut or max(1, card.exits[0] - 1)
    source = given.data or card.name
    splits = {
        s: load_data(source, s, card=card, data_dir=given.data_dir) for s in ("calibration", "evaluation")
    }
    data = subset(splits["evaluation"], given.images)
    calibration = subset(splits["calibration"], 300)
    work = given.work / f"{card.name}-{card.id}"
    nested, nested_from, arrays, pairs = codes(given, network, cut, source, work)
    known = activations(network, data.images, data.labels, cut)
    clean = float((prediction(exit_logits(network, card, data)[:, -1]) == data.labels).mean())
    commonest = int(np.bincount(calibration.labels).argmax())
    at_calibration = Rivals(
        network, calibration, commonest, work / f"calibration-{images_id(calibration)}.npz"
    )
    rivals = Rivals(network, data, commonest, work / f"evaluation-{images_id(data)}.npz")

    rows = []
    for rate in track(RATES, description="codes"):
        for snr_db in SNRS_DB:
            row = compared(network, (nested, pairs[rate]), known, cut, given, rate, snr_db)
            row |= rivals.best(row["capacity_bytes"], at_calibration)
            row["best_rival"] = max(row[kind] for kind in KINDS)
            rows.append(row)

    name = card.name
    if given.nested_steps is not None:
        name += f"-nested-{given.nested_steps}-pairs-{given.steps}"
    result = {
        "command": command_line(),
        "model": card.name,
        "model_id": card.id,
        "cut": cut,
        "keep": given.keep,
        "tokens": card.kept(given.keep) + 1,
        "images": len(data),
        "nested_from": nested_from,
        "clean": clean,
        "seconds": round(time.perf_counter() - began, 1),
        "wire_agreement": wire_agreement(network, arrays, known, cut, given.keep),
        **bars(rows, clean),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"jscc_snr_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    plot(result, RESULTS / f"jscc_snr_{name}.png")
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}))


def bars(rows: list[dict[str, Any]], clean: float) -> dict[str, Any]:
    """Worst gaps in points and the points where a bar is missed."""
    behind = [100 * (row["dedicated"] - row["nested"]) for row in rows]
    missed = []
    for row, gap in zip(rows, behind, strict=True):
        if gap > 1.0 + 1e-9:
            missed.append([row["rate"], row["snr_db"], "dedicated", round(gap, 2)])
        under = 100 * (row["best_rival"] - row["nested"])
        far = row["best_rival"] < clean - 0.02
        if under >= 0.0 if far else under > 1.0 + 1e-9:
            missed.append([row["rate"], row["snr_db"], "rival", round(under, 2)])
    return {
        "nested_behind_dedicated_max": round(max(behind), 2),
        "nested_behind_dedicated_mean": round(float(np.mean(behind)), 2),
        "missed": missed,
    }


if __name__ == "__main__":
    run(main)
