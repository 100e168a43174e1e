"""`splitpoint policy train` and `splitpoint policy evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError, did_you_mean
from ..json_text import json_text
from ..options import need_sim

__all__ = ["comparison_table", "policy_app"]

policy_app = typer.Typer(
    name="policy",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train policies, and compare them on equal paths.",
)


class AlgorithmName(StrEnum):
    ppo = "ppo"
    maskable_ppo = "maskable-ppo"
    dqn = "dqn"


class Choices(StrEnum):
    pruned = "pruned"
    grid = "grid"


@policy_app.command()
def train(
    out: Annotated[
        Path, typer.Option(help="The policy's file, NAME.safetensors; checkpoints lie beside it.")
    ],
    scenario: Annotated[str, typer.Option(help="A built-in scenario or a YAML file.")] = "quickstart",
    env: Annotated[str, typer.Option(help="The environment.")] = "splitpoint/Offload-v0",
    algo: Annotated[AlgorithmName, typer.Option(help="How.")] = AlgorithmName.ppo,
    steps: Annotated[int, typer.Option(min=1, help="Requests, over all copies.")] = 1_500_000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    choices: Annotated[
        Choices,
        typer.Option(help="An action is one of the Decisions worth looking at, or every field of one."),
    ] = Choices.pruned,
    warm: Annotated[bool, typer.Option(help="Imitate the predicted optimum first.")] = True,
    copies: Annotated[int, typer.Option(min=1, help="Environments that walk in step.")] = 256,
    log: Annotated[Path | None, typer.Option(help="Folder for TensorBoard.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint beside --out.")] = True,
) -> None:
    """Train a policy on a scenario's calibration data; the file runs on boards without torch."""
    need_sim("training a policy", "torch", "stable_baselines3", "gymnasium")
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from .rl_train import ENVIRONMENT, PolicyTraining, train_policy
    from .scenario import load_scenario

    if env != ENVIRONMENT:
        raise UsageError(f"cannot train on '{env}': {did_you_mean(env, [ENVIRONMENT])}")
    training = PolicyTraining(
        algorithm=algo.value, steps=steps, seed=seed, choices=choices.value, warm=warm, copies=copies
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(f"{algo.value}, {scenario}"), total=steps)
        train_policy(
            load_scenario(scenario),
            training,
            out,
            progress=lambda done: bar.update(task, completed=min(done, steps)),
            log=log,
            resume=resume,
        )
    print(out)


@policy_app.command()
def evaluate(
    files: Annotated[list[Path], typer.Argument(help="Files of trained policies.")],
    scenario: Annotated[str, typer.Option(help="A built-in scenario or a YAML file.")] = "quickstart",
    seeds: Annotated[int, typer.Option(min=2, help="How many seeds, from 0.")] = 5,
    requests: Annotated[int | None, typer.Option(min=1, help="Per policy and seed.")] = None,
    rivals: Annotated[bool, typer.Option(help="The scenario's own policies beside them.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json and evaluation.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Compare policies on the evaluation profile and on equal sample paths, with 95 % intervals over the seeds."""
    need_sim("comparing policies", "simpy")
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from .policy_config import PolicyConfig, TrainedPolicy
    from .rl_evaluate import evaluate_policies
    from .run import output_folder
    from .scenario import load_scenario

    folder = None if out is None else output_folder(out)
    loaded = load_scenario(scenario, {} if requests is None else {"requests": requests})
    policies: list[PolicyConfig] = [TrainedPolicy(name=path.stem, path=path) for path in files]
    if rivals:
        policies += [policy for policy in loaded.policies if policy.name not in {p.name for p in policies}]
    console = Console(stderr=True)
    known = {policy.name for policy in policies} | {"random", "oracle"}
    with Progress(console=console) as bar:
        task = bar.add_task(
            escape(f"{loaded.name}, {seeds} seeds"), total=loaded.requests * len(known) * seeds
        )
        found = evaluate_policies(loaded, policies, range(seeds), lambda: bar.advance(task))
    if folder is not None:
        from .policy_plot import plot_policies

        text = json_text({"scenario": loaded.name, "rows": found.rows, "runs": found.runs}, 1)
        (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
        plot_policies(folder / "evaluation.png", found.rows, f"{loaded.name}, {seeds} seeds")
    title = f"{loaded.name}, {seeds} seeds of {loaded.requests} requests"
    console.print(comparison_table(found.rows, title, console.width))
    if as_json:
        print(json_text(found.rows))


def comparison_table(rows: list[dict[str, Any]], title: str, width: int) -> Any:
    """One row a policy; under 100 columns each ± goes to a second line."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    narrow = width < 100
    between = "\n" if narrow else " "
    table = Table(
        title=escape(title), box=box.SIMPLE_HEAD, padding=(0, 0 if narrow else 1, 0, 0), pad_edge=False
    )
    table.add_column("policy", overflow="fold", vertical="bottom", min_width=11, max_width=20)
    heads = ("utility", "share", "regret", "accuracy %", "p95 ms", "uplink B", "energy mJ", "violation %")
    for head in heads:
        table.add_column(head.replace(" ", "\n"), justify="right", vertical="bottom", no_wrap=True)
    for row in rows:
        mark = "\nclairvoyant" if row["clairvoyant"] else "" if row["feasible"] else "\nover budget"
        cells = (
            f"{row['policy']}{mark}",
            f"{row['utility']:.4f}{between}±{row['utility_half']:.4f}",
            f"{row['share']:.3f}",
            f"{row['regret']:.4f}{between}±{row['regret_half']:.4f}",
            f"{100 * row['accuracy']:.1f}",
            f"{1e3 * row['latency_p95_s']:.0f}",
            f"{row['uplink_bytes_mean']:.0f}",
            f"{1e3 * row['device_energy_mean_j']:.0f}",
            f"{100 * row['worst_violation']:.1f}",
        )
        table.add_row(*map(Text, cells))
    return table
