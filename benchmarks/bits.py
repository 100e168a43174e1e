"""Accuracy by the width of a code, and progressive refinement against the best fixed width at equal mean bytes.

    python benchmarks/bits.py                                         # clutter
    python benchmarks/bits.py --model cifar10 --data-dir DIR --keep 1 0.25 0.0625 --dims 48 24

Same tokens, same dims: the float reference leaves out nothing but the quantisation. Local exits are off and the last
exit answers. Bytes are those of requests and replies, both messages of a refined request included.

Refinement, by planes or by tokens (what is sent first, what then, below which margin), is compared with the best fixed
width at the mean bytes of every width, ending at the same tokens; and, harder, with every fixed setting of keep and
width that is right more often than all that cost less. All is chosen on the calibration split; figures are of the
evaluation split. The spread is of a paired bootstrap over its samples. Latency is the profile engine's, in the
quickstart scenario with all its contention and a deadline of 2 s: the second round trip is in it.

Writes results/bits_MODEL.json and .png. The last line is JSON: `four_bit_loss` in points (bar: at most 1), `refinement`
the gains in points over each kind of rival.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import command_line, run
from kept_profile import kept_profile
from refinement_rivals import compare, figures

from splitpoint.codec.halves import round_to_wire
from splitpoint.codec.selection import sent_tokens
from splitpoint.codec.tokens import TokenCodec
from splitpoint.models.data import Dataset, load_data
from splitpoint.models.grid import Grid
from splitpoint.models.preprocess import normalise
from splitpoint.models.profile import Profile
from splitpoint.models.recursion import prediction, running_logits
from splitpoint.models.refinement import exchange
from splitpoint.models.rest import rest_keys
from splitpoint.models.store import codec_arrays, load_network, resolve
from splitpoint.models.vit import SplitViT
from splitpoint.sim.engines import VirtualEngine
from splitpoint.sim.policy_config import DecisionConfig, StaticPolicy
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.setup import Setup

RESULTS = Path(__file__).parent / "results"
WIDTHS = (8, 6, 4, 3, 2, 1)
SPLITS = ("calibration", "evaluation")
REQUESTS = 1000
_TICKS = (100, 200, 500, 1000, 2000)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="clutter")
    parser.add_argument("--data", help="the model's own by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cut", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.25, 0.0625])
    parser.add_argument(
        "--refine-keep", type=float, nargs="+", default=[0.25], help="what lower keeps are refined to"
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[48, 24, 12])
    parser.add_argument(
        "--work", type=Path, default=Path("runs/bits"), help="measured profiles are kept here"
    )
    return parser.parse_args()


def profiles(given: argparse.Namespace, data: dict[str, Dataset]) -> dict[str, Profile]:
    """A profile of each split at all widths, measured once for a grid and data."""
    given.work.mkdir(parents=True, exist_ok=True)
    card = load_network(given.model)[1]
    grid = Grid(tuple(given.cut), tuple(given.keep), tuple(given.dims), WIDTHS, tuple(given.refine_keep))
    return {
        split: kept_profile(
            given.work / f"{card.name}.{card.id}.{split}.npz", given.model, data[split], split, grid
        )
        for split in SPLITS
    }


@torch.inference_mode()
def float_accuracy(
    network: SplitViT, codec: TokenCodec, data: Dataset, cut: int, keep: float, dims: int
) -> float:
    """At the last exit, with the same tokens and dims and no quantisation."""
    card, right = network.card, 0
    basis = codec.basis(cut)
    for start in range(0, len(data), 64):
        part = slice(start, start + 64)
        x, at, u, qbar = network.embed(torch.from_numpy(normalise(data.images[part], card))), 0, None, None
        for index in card.exits_within(0, cut):
            x, scores = network.run(x, at, card.exits[index])
            at = card.exits[index]
            q, u = network.exit(x, index, u)
            qbar = running_logits(qbar, q.numpy())
        if at < cut:
            x, scores = network.run(x, at, cut)
        rows, rests = [], []
        for tokens, score in zip(x.numpy(), scores.numpy(), strict=True):
            sent = sent_tokens(tokens, score, keep, rest=codec.sends_rest(cut))
            rows.append(basis.reconstruct(basis.project(sent.tokens, dims)))
            rests.append(sent.rest)
        x, at, keys = torch.from_numpy(np.stack(rows)), cut, rest_keys(rests, len(rows[0]))
        if qbar is not None and u is not None:
            qbar, u = round_to_wire(qbar), torch.from_numpy(round_to_wire(u.numpy()))
        for index in card.exits_within(cut, card.depth):
            x, _ = network.run(x, at, card.exits[index], keys)
            at = card.exits[index]
            q, u = network.exit(x, index, u)
            qbar = running_logits(qbar, q.numpy())
        assert qbar is not None
        right += int((prediction(qbar) == data.labels[part]).sum())
    return right / len(data)


def latency(given: argparse.Namespace, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The profile engine's figures for each row's fixed setting and refinement, in the quickstart scenario."""
    card = load_network(given.model)[1]
    path = given.work.resolve() / f"{card.name}.{card.id}.evaluation.npz"
    scenario = load_scenario(
        "quickstart",
        {
            "model": str(resolve(given.model)),
            "profiles": {"evaluation": str(path)},
            "requests": REQUESTS,
            "deadline_s": 2.0,
        },
    )
    engine = VirtualEngine(Setup(scenario), "profile")
    found = []
    for row in rows:
        common = {"split": row["cut"], "dims": row["dims"]}
        rule = {name: row["rule"][name] for name in ("keep", "bits", "refine_keep", "refine_bits")}
        chosen = {
            "fixed": {name: row["fixed"][name] for name in ("keep", "bits")},
            "refinement": rule | {"refine_margin": row["rule"]["margin"]},
        }
        result: dict[str, Any] = {name: row[name] for name in ("cut", "dims")}
        for name, decision in chosen.items():
            policy = StaticPolicy(name=name, decision=DecisionConfig(**common, **decision))
            columns = engine.run(policy)
            latency_s, refined = columns["latency_s"], columns["refined"]
            result[name] = {
                "mean_ms": round(1e3 * float(latency_s.mean()), 2),
                "p95_ms": round(1e3 * float(np.quantile(latency_s, 0.95)), 2),
                "refined_mean_ms": round(1e3 * float(latency_s[refined].mean()), 2)
                if refined.any()
                else None,
                "accuracy": round(float(columns["correct"].mean()), 4),
                "bytes": round(float((columns["uplink_bytes"] + columns["downlink_bytes"]).mean()), 1),
            }
        found.append(result)
    return found


def draw(path: Path, widths: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = list(dict.fromkeys(_setting(row) for row in widths))
    figure, axes = plt.subplots(
        1, len(settings), figsize=(4.2 * len(settings), 3.6), sharey=True, squeeze=False
    )
    for ax, setting in zip(axes[0], settings, strict=True):
        mine = [row for row in widths if _setting(row) == setting]
        for keep in dict.fromkeys(row["keep"] for row in mine):
            line = [row for row in mine if row["keep"] == keep]
            ax.plot(
                [r["bytes"] for r in line], [100 * r["accuracy"] for r in line], "o-", label=f"keep {keep:g}"
            )
        two = [row["refinement"] for row in rows if _setting(row) == setting and row["rival"] == "setting"]
        two.sort(key=lambda found: found["bytes"])
        ax.plot([r["bytes"] for r in two], [100 * r["accuracy"] for r in two], "ks--", label="refinement")
        ax.set(title="cut {}, dims {}".format(*setting), xlabel="bytes a request, both ways", xscale="log")
        ax.set_xticks(_TICKS, [str(tick) for tick in _TICKS])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("accuracy, %")
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _setting(row: dict[str, Any]) -> tuple[int, int]:
    return row["cut"], row["dims"]


def _place(row: dict[str, Any]) -> str:
    return f"cut {row['cut']} dims {row['dims']:<3}"


def _rule(rule: dict[str, Any]) -> str:
    more = f"keep {rule['refine_keep']:g}" if rule["refine_keep"] else f"bits {rule['refine_bits']}"
    return f"keep {rule['keep']:g} bits {rule['bits']} to {more} below {rule['margin']:.2f}"


def main() -> None:
    given = arguments()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    network, card = load_network(given.model)
    data = {
        split: load_data(given.data or card.name, split, card=card, data_dir=given.data_dir)
        for split in SPLITS
    }
    codec = TokenCodec(codec_arrays(resolve(given.model)), dim=card.dim)
    measured = profiles(given, data)
    widths, rows = [], []
    for cut, dims in product(given.cut, given.dims):
        for keep in given.keep:
            reference = float_accuracy(network, codec, data["evaluation"], cut, keep, dims)
            for bits in WIDTHS:
                found = figures(exchange(measured["evaluation"], cut, keep, dims, bits))
                loss = round(100.0 * (reference - found["accuracy"]), 2)
                row = {"cut": cut, "keep": keep, "dims": dims, "bits": bits}
                widths.append(row | {"float_accuracy": round(reference, 4)} | found | {"loss_points": loss})
                print(f"{_place(row)} keep {keep:<7g} bits {bits}  {found['accuracy']:.4f}  loss {loss:+.2f}")
        rows += compare(*(measured[split] for split in SPLITS), cut, dims)
    for row in rows:
        fixed, refined, (low, high) = row["fixed"], row["refinement"], row["interval_points"]
        print(
            f"{row['rival']:7} {_place(row)} fixed keep {fixed['keep']:g} bits {fixed['bits']} "
            f"{fixed['accuracy']:.4f} at {fixed['bytes']:.0f} B, {_rule(row['rule'])} "
            f"{refined['accuracy']:.4f} at {refined['bytes']:.0f} B: {row['gain_points']:+.2f} points "
            f"[{low:+.2f}, {high:+.2f}]"
        )
    times = latency(given, rows)
    for row, time in zip(rows, times, strict=True):
        print(
            f"{_place(row)} fixed keep {row['fixed']['keep']:g} bits {row['fixed']['bits']}: p95 "
            f"{time['fixed']['p95_ms']:.1f} ms fixed, {time['refinement']['p95_ms']:.1f} ms refined"
        )
    summary = {
        "benchmark": "bits",
        "model": card.name,
        "four_bit_loss": max(row["loss_points"] for row in widths if row["bits"] == 4),
        "two_bit_loss": max(row["loss_points"] for row in widths if row["bits"] == 2),
        "refinement": {
            kind: [row["gain_points"] for row in rows if row["rival"] == kind]
            for kind in ("width", "setting")
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"bits_{card.name}.json").write_text(
        json.dumps(
            {
                "command": command_line(),
                "model_id": card.id,
                "samples": {split: len(profile) for split, profile in measured.items()},
                "summary": summary,
                "widths": widths,
                "refinement": rows,
                "latency": times,
            },
            indent=1,
        )
        + "\n"
    )
    draw(RESULTS / f"bits_{card.name}.png", widths, rows)
    print(json.dumps(summary))


if __name__ == "__main__":
    run(main)
