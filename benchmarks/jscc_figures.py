"""Table and plot of `jscc_snr.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from capacity_rivals import KINDS

__all__ = ["plot", "show"]


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{result['model']}, cut {result['cut']}, keep {result['keep']:g}, clean {result['clean']:.4f}"
    )
    names = ["rate", "snr_db", "channel_uses", "capacity_bytes", "nested", "dedicated", *KINDS]
    for name in names:
        table.add_column(name, justify="right")
    for row in result["rows"]:
        table.add_row(*(f"{row[n]:.4f}" if 0 < row[n] < 1 and n != "rate" else f"{row[n]:g}" for n in names))
    Console().print(table)


def plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    rates = list(dict.fromkeys(row["rate"] for row in result["rows"]))
    figure, panels = plt.subplots(1, len(rates), figsize=(3.2 * len(rates), 3.0), sharey=True)
    styles = {"nested": "C0o-", "dedicated": "C1x--", "jpeg": "C7:", "webp": "C7-.", "downscaled": "C3s:"}
    for panel, rate in zip(panels, rates, strict=True):
        rows = [row for row in result["rows"] if row["rate"] == rate]
        for name, style in styles.items():
            panel.plot([r["snr_db"] for r in rows], [r[name] for r in rows], style, ms=4, label=name)
        panel.axhline(result["clean"], color="black", lw=0.8)
        panel.set_title(f"r = {rate:g}, {rows[0]['channel_uses']} channel uses", fontsize=9)
        panel.set_xlabel("SNR in dB")
    panels[0].set_ylabel("accuracy")
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
