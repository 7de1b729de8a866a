"""`medmoe demo`: the whole way on phantoms, to see that everything works and what it looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medmoe_cli.session import session_of


def demo(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything the demo makes.")] = Path(
        "medmoe-demo"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo in the folder.")] = False,
) -> None:
    """Convert, check, plan, train, predict and evaluate phantom scans: no data, no network, under three minutes.

    Example: medmoe demo -o medmoe-demo
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.demo import run_demo

    result = run_demo(folder=output, overwrite=overwrite, reporter=session.console)
    console = session.console
    console.json(result)
    rows = [[row.name, row.dice, row.hd95_mm, row.nsd] for row in result.rows]
    console.table("held-out phantoms, box prompts", ["structure", "Dice", "HD95 mm", "NSD 2 mm"], rows)
    total = sum(result.seconds.values())
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    console.table("to look into", ["what", "where"], [[name, str(path)] for name, path in result.places.items()])
    console.print(f"{total:.0f} s in all: {parts}")
    console.next_command("medmoe convert SCANS --format folder --name NAME")
