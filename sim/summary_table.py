"""The summary of a run as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from .report_headline import headline_rows, number

__all__ = ["summary_table"]

_HEADS = (
    "policy", "accuracy\n%", "utility", "p50\nms", "p95\nms", "p99\nms", "uplink\nB", "energy\nmJ",
    "local\n%", "degr.", "late", "lost",
)  # fmt: skip


def summary_table(summaries: Sequence[Mapping[str, Any]], width: int) -> RichTable:
    """One row a policy, the best utility first and in bold. Names are shown as they are, not as markup.

    width: columns of the terminal. Under 100, those of the table stand closer, each ± goes to a second line, and large
    numbers are rounded, so that 80 are enough: the last column says what was lost.
    """
    narrow = width < 100
    between = "\n" if narrow else " "
    table = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0 if narrow else 1, 0, 0)
    )
    for head in _HEADS:
        if head == "policy":
            table.add_column(head, vertical="bottom", overflow="fold", min_width=6, max_width=20)
        else:
            table.add_column(head, justify="right", vertical="bottom", no_wrap=True)
    bytes_mean = {str(s["policy"]): s["uplink_bytes_mean"] for s in summaries}
    for row in headline_rows(summaries):
        cells = [
            row["policy"],
            f"{row['accuracy']}{between}{row['accuracy_ci']}",
            f"{row['utility']}{between}{row['utility_ci']}",
            *(row[name] for name in ("p50", "p95", "p99")),
            number(bytes_mean[row["policy"]], 0),
            row["energy"],
            row["local"],
            *(f"{row[name]:,}" for name in ("degraded", "late", "lost")),
        ]
        if narrow:
            cells[3:] = map(_rounded, cells[3:])
        texts = [Text(cell.strip()) for cell in cells]
        if row["clairvoyant"]:
            texts[0].append("\nclairvoyant")
        if not row["feasible"]:
            texts[0].append("\nover budget", style="bold red")
        if row["lost"]:
            texts[-1].stylize("bold red")
        table.add_row(*texts, style="bold green" if row["best"] else None)
    return table


def _rounded(cell: str) -> str:
    """Five characters at most up to a million: `1,426` for `1,426.3`, `150k` for `149,907`."""
    if "," not in cell:
        return cell
    value = float(cell.replace(",", ""))
    return f"{value:,.0f}" if value < 9999.5 else f"{value / 1000:,.0f}k"
