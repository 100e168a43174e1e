"""The summary of a run as a table for a terminal of 110 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from .report_text import headline_rows, number

__all__ = ["summary_table"]

_HEADS = (
    "policy", "accuracy\n%", "utility", "p50\nms", "p95\nms", "p99\nms", "uplink\nB", "energy\nmJ",
    "local\n%", "degr.", "late", "lost",
)  # fmt: skip


def summary_table(summaries: Sequence[Mapping[str, Any]]) -> RichTable:
    """One row a policy, the best utility first and in bold. Names are shown as they are, not as markup."""
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    for head in _HEADS:
        first = head == "policy"
        table.add_column(
            head, justify="left" if first else "right", vertical="bottom", no_wrap=True,
            overflow="ellipsis", max_width=20 if first else None,
        )  # fmt: skip
    bytes_mean = {str(s["policy"]): s["uplink_bytes_mean"] for s in summaries}
    for row in headline_rows(summaries):
        cells = [
            row["policy"], f"{row['accuracy']} {row['accuracy_ci']}", f"{row['utility']} {row['utility_ci']}",
            row["p50"], row["p95"], row["p99"], number(bytes_mean[row["policy"]], 0),
            row["energy"], row["local"], *(f"{row[name]:,}" for name in ("degraded", "late", "lost")),
        ]  # fmt: skip
        texts = [Text(cell.strip()) for cell in cells]
        if row["lost"]:
            texts[-1].stylize("bold red")
        table.add_row(*texts, style="bold green" if row["best"] else None)
    return table
