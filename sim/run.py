"""One run: an engine, some policies, and what is written about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ..alone import alone
from ..errors import DataError, UsageError
from ..json_text import json_text
from ..whole_file import whole_file
from .metrics import request_utility, summarise
from .policy_config import OraclePolicy, PolicyConfig, ReplayPolicy
from .records import Table, write_requests
from .scenario import Scenario
from .setup import Setup
from .transients import transients

__all__ = [
    "ENGINES",
    "Engine",
    "Run",
    "alone_in",
    "make_engine",
    "output_folder",
    "policies_named",
    "run_policies",
    "write_run",
]

ENGINES = ("live", "profile", "tensor")
EngineName = Literal["live", "profile", "tensor"]


class Engine(Protocol):
    """Runs one policy of a scenario over all its requests and gives the columns of the records."""

    def run(self, policy: PolicyConfig) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Run:
    """What a run gave: one summary and one table a policy."""

    scenario: Scenario
    engine: str
    summaries: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)


def make_engine(
    setup: Setup, engine: str, progress: Callable[[], None] | None = None, **options: Any
) -> Engine:
    """The engine of this name; `options` are the live engine's."""
    if engine == "live":
        from .live import LiveEngine

        return LiveEngine(setup, progress, **options)
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}': one of {', '.join(ENGINES)}")
    from .engines import VirtualEngine

    return VirtualEngine(setup, engine, progress)


def policies_named(scenario: Scenario, names: Sequence[str], engine: str = "profile") -> list[PolicyConfig]:
    """The scenario's policies of these names, all that the engine can run where none is given: oracles are virtual.

    `replay:PATH` replays the only policy of an earlier run's requests.parquet, `replay:PATH:NAME` one of several.
    UsageError for unknown names, and for one given twice: summaries and tables go by names.
    """
    if not names:
        live = engine == "live"
        able = [p for p in scenario.policies if not (live and isinstance(p, OraclePolicy))]
        if not able:
            raise UsageError(
                f"the policies of {scenario.name} are clairvoyant: none runs with the engine live"
            )
        return able
    chosen: list[PolicyConfig] = []
    for name in names:
        if name.startswith("replay:"):
            path, _, policy = name.removeprefix("replay:").partition(":")
            chosen.append(ReplayPolicy(name=policy or "replay", path=Path(path), policy=policy or None))
        else:
            chosen.append(scenario.policy(name))
            if engine == "live" and isinstance(chosen[-1], OraclePolicy):
                raise UsageError(
                    f"policy '{name}' is clairvoyant: it runs with the engines profile and tensor only"
                )
        if [policy.name for policy in chosen].count(chosen[-1].name) > 1:
            raise UsageError(f"policy '{chosen[-1].name}' is given twice")
    return chosen


def run_policies(setup: Setup, run: Run, engine: Engine, policies: Sequence[PolicyConfig]) -> None:
    """Run the policies in turn, and put what each gave into `run`. All see the same arrivals, inputs and channel."""
    weights, budgets = setup.scenario.weights(), setup.scenario.budgets.budgets()
    changes_s = setup.scenario.changes_s()
    for policy in policies:
        columns = engine.run(policy)
        run.tables[policy.name] = columns
        run.summaries.append(
            summarise(policy.name, run.engine, setup.scenario.requests, columns, weights, budgets)
            | {"clairvoyant": isinstance(policy, OraclePolicy)}
            | {"changes": transients(columns, request_utility(columns, weights), changes_s, budgets)}
        )


def output_folder(path: Path) -> Path:
    """Make the folder, or say in one line why it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".splitpoint"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"cannot write to the output folder {path}: {error.strerror}") from None
    return path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Two runs into one folder would mix their processes' files. UsageError where another one is at it."""
    with alone(folder / ".running") as mine:
        if not mine:
            raise UsageError(f"another run writes to {folder}: give another --out")
        yield


def write_run(out: Path, run: Run) -> None:
    """summary.json and requests.parquet; equal runs give equal files. DataError where they cannot be written."""
    about = {"scenario": run.scenario.model_dump(mode="json"), "engine": run.engine}
    with whole_file(out / "requests.parquet", "requests") as path:
        write_requests(path, run.tables, about)
    with whole_file(out / "summary.json", "summary") as path:
        path.write_text(json_text(run.summaries, 2) + "\n", encoding="utf-8")
