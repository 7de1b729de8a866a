"""`medmoe convert collection`: several datasets of the workspace as one, under one vocabulary."""

from __future__ import annotations

from medmoe_cli.console import Console
from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.workspace import Workspace

WORD = "collection"
OPTIONS = ("name", "members", "seed", "overwrite", "dry_run")
"""What it understands of the options of `convert`."""


def build(
    console: Console,
    workspace: Workspace,
    *,
    name: str | None,
    members: tuple[str, ...],
    seed: int | None,
    overwrite: bool,
    dry_run: bool,
    again: str,
) -> None:
    """Write it, or say what it would be."""
    from medmoe_cli.core.workflows.collect import run_collect

    if name is None:
        raise ConfigError(
            "missing --name",
            where="medmoe convert collection",
            fix=f"medmoe convert collection --name NAME --members {','.join(members) or 'A,B'}",
        )
    result = run_collect(
        workspace=workspace,
        name=name,
        members=members,
        seed=seed,
        overwrite=overwrite,
        write=not dry_run,
        reporter=console,
    )
    console.json(result)
    console.table(
        f"members of {name}",
        ["dataset", "modality", "cases", "patients", "held out", "classes"],
        [
            [
                one.dataset,
                one.modality or "?",
                one.num_cases,
                one.num_patients,
                "" if dry_run else one.num_held_out,
                one.num_classes,
            ]
            for one in result.members
        ],
    )
    console.table(
        "classes",
        ["value", "name", "called by the members"],
        [
            [
                value,
                one.name,
                "; ".join(f"{member}: {', '.join(names)}" for member, names in one.members.items()),
            ]
            for value, one in enumerate(result.classes, start=1)
        ],
        caption=f"{sum(one.spellings > 1 for one in result.classes)} of them are spelled in more than one way; "
        "what is not one class after all is told apart under 'sources' in dataset.json",
    )
    console.next_command(again if dry_run else f"medmoe check {name}")
