"""`medmoe train`: a dataset in, a validated model out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from medmoe_cli.commands.arguments import Preset
from medmoe_cli.session import session_of

if TYPE_CHECKING:
    from medmoe_cli.console import Console
    from medmoe_cli.core.workflows.scoring.validate import Validation
    from medmoe_cli.core.workflows.train import TrainResult

_MILLION = 1e6


def train(
    context: typer.Context,
    method: Annotated[str, typer.Option(help="The method to train: segmote, moe-sam, da-sam3 or sam-med3d-moe.")],
    data: Annotated[str, typer.Option(help="A dataset's name in the workspace, or its folder.")],
    preset: Preset = None,
    fold: Annotated[str, typer.Option(help="Which fold to hold out (0 to 4), or 'all' to train on every case.")] = "0",
    name: Annotated[
        str | None, typer.Option(help="The run's name. Default: run-001, run-002 and so on; with --resume the newest.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run from its last checkpoint.")] = False,
    stage: Annotated[
        str | None,
        typer.Option(help="Train one stage alone; a later stage goes on with the newest run, or the one named."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training samples.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many updates, whatever the epochs.")] = None,
    device: Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:1.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs (or CPU processes) that train together.")] = 1,
    precision: Annotated[str | None, typer.Option(help="auto, 32, bf16 or 16.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: --set train.learning_rate=1e-4; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Resolve everything, show plan, parameters and cost; write nothing.")
    ] = False,
) -> None:
    """Train a model; checks, plans and preprocesses the dataset first where that is missing.

    A killed or interrupted training goes on with --resume as if nothing had happened.

    Example: medmoe train --method segmote --data btcv --preset segmote-tiny
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.train import TrainOptions, run_train

    options = TrainOptions(
        data=data,
        method=method,
        preset=preset,
        fold=fold,
        name=name,
        resume=resume,
        stage=stage,
        epochs=epochs,
        steps=steps,
        device=device,
        devices=devices,
        precision=precision,
        assignments=tuple(assignments or ()),
        dry_run=dry_run,
    )
    result = run_train(workspace=session.workspace, options=options, reporter=session.console)
    if not result.is_main:
        return
    console = session.console
    console.json(result)
    if dry_run:
        _show_dry_run(console, result)
        console.next_command(f"medmoe train --method {method} --data {data} --preset {preset or result.preset}")
        return
    _show_training(console, result)
    following = result.trained.next_stage if result.trained is not None else None
    if following is not None:
        name = result.run.split("/")[-2]
        console.next_command(
            f"medmoe train --method {method} --data {data} --fold {fold} --name {name} --stage {following}"
        )
        return
    console.next_command(f"medmoe predict -i SCANS -o MASKS -m {result.run}")


def _show_dry_run(console: Console, result: TrainResult) -> None:
    plan = result.plan
    console.table(
        f"plan of {plan.dataset} for {plan.method}, preset {result.preset}",
        ["value", "decided", "why"],
        [
            [key, str(getattr(plan, key)), plan.reasons.get(key, "")]
            for key in (
                "slice_axis",
                "input_size",
                "context_slices",
                "batch_size",
                "num_experts",
                "binary",
                "mirror_axes",
            )
        ],
    )
    _show_parameters(console, result)
    cost = result.step_cost
    if cost is not None:
        console.print(f"one step on {cost.device}: {cost.seconds:.2f} s, {cost.memory_mb} MB")
        if result.total_steps is not None:
            hours = result.total_steps * cost.seconds / 3600
            console.print(f"{result.total_steps} steps: about {hours:.1f} h, loading and validation not counted")
    console.print("dry run: nothing was written")


def _show_training(console: Console, result: TrainResult) -> None:
    _show_parameters(console, result)
    trained, validation = result.trained, result.validation
    if trained is not None:
        best = (
            ""
            if trained.best_dice is None
            else f", best validation score on the network's grid {trained.best_dice:.3f}"
        )
        console.print(f"{trained.steps} steps in {trained.seconds / 60:.1f} min{best}; model: {trained.checkpoint}")
    if validation is not None and not validation.ways:
        rows: list[list[str | float | None]] = [[name, dice] for name, dice in validation.dice_per_class.items()]
        rows.append(["mean", validation.mean_dice])
        console.table("validation, Dice per case at native resolution", ["class", "mean Dice"], rows)
    elif validation is not None:
        console.table(
            "validation, Dice per instance at native resolution",
            ["prompt", "mean Dice", "instances"],
            [[way.way, way.mean_dice, way.num_instances] for way in validation.ways],
            caption="ellipse (3D: ellipsoid): drawn into each instance's box, without a network",
        )
    if validation is not None and validation.members:
        _show_members(console, validation)
    console.print(f"run: {result.folder}")


def _show_members(console: Console, validation: Validation) -> None:
    """A collection's validation, member by member."""
    ways = [way.way for way in validation.ways]
    rows: list[list[str | float | None]] = []
    for member in validation.members:
        by_way = {way.way: way.mean_dice for way in member.ways}
        score = member.score
        rows.append([score.dataset, score.modality, score.num_cases, score.mean_dice, *map(by_way.get, ways)])
    console.table(
        "validation by member: its own classes alone",
        ["member", "modality", "cases", "mean Dice per case", *(f"{way}, per instance" for way in ways)],
        rows,
    )


def _show_parameters(console: Console, result: TrainResult) -> None:
    for stage in result.parameters:
        rows: list[list[str | float]] = [
            [group.name, group.total / _MILLION, group.trainable / _MILLION] for group in stage.groups
        ]
        rows.append(
            [
                "all",
                sum(group.total for group in stage.groups) / _MILLION,
                sum(group.trainable for group in stage.groups) / _MILLION,
            ]
        )
        console.table(f"parameters (millions), stage {stage.stage}", ["part", "total", "trainable"], rows)
