"""Tables and plot of `squad.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curves import Curve, Mix
from rich.console import Console
from rich.table import Table


def report(
    near: list[dict[str, Any]],
    at_near: list[dict[str, Any]],
    others: dict[str, list[dict[str, Any]]],
    compared: list[dict[str, Any]],
) -> None:
    console = Console(width=118)
    table = Table(title="SQUAD within a point of the static ensemble, by account of latency")
    for column in ("account", "alpha", "accuracy", "static", "points lost", "saved", "mean MACs", "asked"):
        table.add_column(column, justify="left" if column == "account" else "right")
    for row in near:
        low, high = row["loss_interval"]
        table.add_row(
            row["account"],
            f"{row['alpha']:.3g}",
            f"{row['accuracy']:.4f}",
            f"{row['static_accuracy']:.4f}",
            f"{row['loss_points']:.2f} [{low:.2f}, {high:.2f}]",
            f"{row['saved']:.1%}",
            f"{row['mean_macs'] / 1e6:.2f} M",
            f"{row['asked']:.2f}",
        )
    console.print(table)
    table = Table(title="SQUAD against others at its mean MACs there")
    for column in ("other", "accuracy", "SQUAD", "points gained"):
        table.add_column(column, justify="left" if column == "other" else "right")
    for name, rows in [("best of one learner", at_near), *others.items()]:
        for row in rows:
            low, high = row["interval"]
            table.add_row(
                row["rival"] if name.startswith("best") else name,
                f"{row['rival_accuracy']:.4f}",
                f"{row['accuracy']:.4f}",
                f"{row['gain_points']:.2f} [{low:.2f}, {high:.2f}]",
            )
    console.print(table)
    table = Table(
        title="Picks: accuracy at the MACs of QUEST near its static ensemble, and at its quartiles of cost"
    )
    for column in ("size", "method", "learners", "accuracy"):
        table.add_column(column)
    for found in compared:
        for method, learners in found["picks"].items():
            row = found["accuracy"][method]
            figures = " ".join("-" if value is None else f"{value:.4f}" for value in row)
            table.add_row(str(found["size"]), method, ", ".join(learners), figures)
        shares = " ".join(f"{value:.0f}" for value in found["percentile"])
        table.add_row(
            str(found["size"]), "QUEST's percentile", f"of {len(found['random'])} random picks", shares
        )
    console.print(table)


def drawn(curves: list[Curve], static: Curve, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(15, 4.6), sharey=True)
    names = ("macs", "seconds", "parallel_seconds")
    labels = ("mean MACs (millions)", "sequential latency (ms)", "parallel latency (ms)")
    for panel, metric, label in zip(panels, names, labels, strict=True):
        scale = 1e-6 if metric == "macs" else 1e3
        for curve in curves:
            mixes = [Mix(curve, k, k, 0.0) for k in curve.hull(metric)]
            style = {"quorum": {"lw": 2}, "network": {"lw": 1.2, "ls": "--"}}.get(
                curve.kind, {"lw": 0.8, "alpha": 0.7}
            )
            panel.plot(
                [scale * mix.cost(metric).mean() for mix in mixes],
                [mix.accuracy() for mix in mixes],
                marker=".",
                label=curve.name,
                **style,
            )
        panel.plot(
            [scale * static.cost("evaluation", 0, metric).mean()],
            [static.right("evaluation", 0).mean()],
            "k*",
            ms=11,
            label=static.name,
        )
        panel.set(xlabel=label)
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="accuracy, evaluation split")
    panels[2].legend(fontsize=6, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
