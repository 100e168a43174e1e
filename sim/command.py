"""What `splitpoint run` does: engines, progress, table, files, report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import DataError, UsageError
from ..json_text import json_text
from ..models.data import NAMED, Dataset
from ..options import host_port
from ..whole_file import whole_file
from .broken_off import sigterm_unwinds
from .compare import compare
from .inputs import load_inputs
from .policy_config import PolicyConfig, ReplayPolicy
from .report_headline import failed_policies
from .run import Run, alone_in, make_engine, output_folder, policies_named, run_policies, write_run
from .scenario import load_scenario
from .setup import Setup
from .summary_table import summary_table

__all__ = ["RunOptions", "run_command"]

_FILE_WIDTH = 120
"""Columns of what is no terminal: it has no edge to fold the policies' names at."""


class RunOptions(NamedTuple):
    """The options of `splitpoint run`; None stands for the scenario's own value."""

    scenario: str
    engine: str
    policies: tuple[str, ...]
    requests: int | None
    seed: int | None
    out: Path | None
    compare: str | None
    server: str | None
    head: str
    json: bool


def run_command(options: RunOptions) -> None:
    """Run, print the table, write summary.json, requests.parquet and report.html."""
    if options.compare == "live" or (options.compare and options.engine != "live"):
        raise UsageError(
            "--compare holds a live run against a virtual one: --engine live --compare profile|tensor"
        )
    if options.server:
        host_port(options.server)
        if options.engine != "live":
            raise UsageError("--server is for the live engine")
    changes = {
        name: getattr(options, name) for name in ("requests", "seed") if getattr(options, name) is not None
    }
    scenario = load_scenario(options.scenario, changes)
    policies = policies_named(scenario, options.policies, options.engine)
    setup = Setup(scenario)
    if options.engine == "live":
        # What is tuned by simulation is tuned once, and not in every device's process.
        policies = [setup.tuned(policy) for policy in policies]
        setup = Setup(scenario.model_copy(update={"policies": tuple(policies)}))
    out = output_folder(options.out or Path("runs") / f"{scenario.name}-{options.engine}")
    with alone_in(out):
        _run_into(out, options, setup, policies)


def _run_into(out: Path, options: RunOptions, setup: Setup, policies: list[PolicyConfig]) -> None:
    # What is said holds the user's names and paths.
    console = Console(stderr=True, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    inputs = _inputs_to_draw(setup, options.engine, console)
    comparison: dict[str, dict[str, Any]] = {}
    if options.compare:
        virtual = _run(setup, options.compare, policies, console, {}, out)
        (out / "virtual").mkdir(exist_ok=True)
        write_run(out / "virtual", virtual)
        path = out / "virtual" / "requests.parquet"
        policies = [
            ReplayPolicy(name=policy.name, path=path.resolve(), policy=policy.name) for policy in policies
        ]
    live_options: dict[str, Any] = {}
    if options.engine == "live":
        live_options = {
            "folder": output_folder(out / "processes"),
            "server": options.server,
            "head": options.head,
        }
    run = _run(setup, options.engine, policies, console, live_options, out)
    if options.compare:
        comparison = {name: compare(run.tables[name], virtual.tables[name]) for name in run.tables}
        with whole_file(out / "comparison.json", "comparison") as path:
            path.write_text(json_text(comparison, 2) + "\n", encoding="utf-8")
    else:
        (out / "comparison.json").unlink(missing_ok=True)  # of an earlier run into this folder
    write_run(out, run)
    _report(out, setup, run, inputs, comparison, console)
    console.print(summary_table(run.summaries, console.width))
    for sentence in failed_policies(run.summaries):
        console.print(sentence, soft_wrap=True)
    for name, result in comparison.items():
        console.print(_compared(name, result), soft_wrap=True)
    console.print(f"report: {out / 'report.html'}", soft_wrap=True)
    if options.json:
        print(json_text(run.summaries))


def _run(
    setup: Setup,
    engine_name: str,
    policies: Sequence[PolicyConfig],
    console: Console,
    options: dict[str, Any],
    out: Path,
) -> Run:
    """Where it is broken off, the policies that were done by then are kept in OUT/unfinished."""
    run = Run(setup.scenario, engine_name)
    total = setup.scenario.requests * len(policies)
    title = f"{setup.scenario.name}, {engine_name}"
    with sigterm_unwinds(), _progress(console, title, total) as advance:
        engine = make_engine(setup, engine_name, advance, **options)
        try:
            run_policies(setup, run, engine, policies)
        except BaseException:
            if run.tables:
                folder = output_folder(out / "unfinished")
                write_run(folder, run)
                console.print(f"done before: {', '.join(run.tables)}, in {folder}", soft_wrap=True)
            raise
        finally:
            engine.close()
    return run


@contextmanager
def _progress(console: Console, title: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        # Drawing costs more than a simulated request: advance in steps.
        step, waiting = max(1, total // 500), 0

        def advance() -> None:
            nonlocal waiting
            waiting += 1
            if waiting >= step:
                progress.advance(task, waiting)
                waiting = 0

        yield advance
        progress.update(task, completed=total)


def _inputs_to_draw(setup: Setup, engine: str, console: Console) -> Dataset | None:
    """The inputs that the report shows, loaded before anything is run: what is wrong with them is said in time.

    None where a quorum answers, which gets inputs whole, and where looked-up answers need no data and there are none.
    """
    if setup.scenario.quorum is not None:
        return None
    try:
        return load_inputs(setup)
    except DataError as error:
        if engine != "profile" or setup.scenario.data.name not in NAMED:
            raise
        console.print(f"the report gets no pictures: {error}", soft_wrap=True)
        return None


def _report(
    out: Path,
    setup: Setup,
    run: Run,
    inputs: Dataset | None,
    comparison: dict[str, dict[str, Any]],
    console: Console,
) -> None:
    from .pictures import kept_patches
    from .report import write_report

    with console.status("report"):
        write_report(
            out / "report.html",
            scenario=run.scenario,
            engine=run.engine,
            summaries=run.summaries,
            tables=run.tables,
            card=setup.card,
            seed=run.scenario.seed,
            pictures=kept_patches(setup, dict(run.tables), inputs) if inputs else [],
            comparison=_comparison_rows(comparison),
            command=_command(),
            learner_macs=_learner_macs(setup),
        )


def _learner_macs(setup: Setup) -> int:
    """Of all learners that can be asked, to their last gates; 0 without a quorum."""
    quorum = setup.scenario.quorum
    return 0 if quorum is None else sum(sum(setup.learner_macs[index]) for index in quorum.asked)


def _command() -> str:
    return shlex.join(["splitpoint", *sys.argv[1:]])


def _comparison_rows(comparison: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    rows: dict[str, tuple[Any, ...]] = {}
    for policy, result in comparison.items():
        for name, row in result["latency"].items():
            if row["live_s"] is not None:
                difference = row["live_s"] - row["virtual_s"]
                rows[f"{policy}: latency_{name}_s"] = (
                    row["live_s"],
                    row["virtual_s"],
                    difference,
                    row["within"],
                )
        for name in ("bytes_differ", "place_differs", "device_answers_differ", "server_answers_differ"):
            rows[f"{policy}: {name}"] = (result[name], 0, result[name], result[name] == 0)
        rows[f"{policy}: near_ties"] = (result["near_ties"], 0, result["near_ties"], None)
    return rows


def _compared(policy: str, result: dict[str, Any]) -> str:
    parts = [
        f"{name} {1e3 * row['live_s']:.1f}/{1e3 * row['virtual_s']:.1f} ms"
        for name, row in result["latency"].items()
        if row["live_s"] is not None
    ]
    differ = sum(
        result[name]
        for name in ("bytes_differ", "place_differs", "device_answers_differ", "server_answers_differ")
    )
    verdict = "agrees" if result["within"] else "DIFFERS"
    return (
        f"{policy}: live/virtual {verdict}; {differ} of {result['requests']} requests differ, "
        f"{result['near_ties']} near-ties, {result['degraded_in_either']} degraded; {', '.join(parts)}"
    )
