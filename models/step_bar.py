"""Progress of a training in steps: a bar, and lines on stderr where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["step_bar"]

_Tick = Callable[[int, float], None]


@contextmanager
def step_bar(line_every: int = 100) -> Iterator[Callable[[str, int], _Tick]]:
    """`begin(name, steps)`, which gives what to call with the steps that are done and the loss.

    line_every  steps between two lines, where there is no terminal
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:

        def begin(name: str, steps: int) -> _Tick:
            task = bar.add_task(name, total=steps)

            def tick(step: int, loss: float) -> None:
                bar.update(task, completed=step, description=f"{name} loss {loss:.3f}")
                if not console.is_terminal and step % line_every == 0:
                    print(f"{name} step {step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

            return tick

        yield begin
        for task in bar.tasks:
            bar.update(task.id, completed=task.total)
