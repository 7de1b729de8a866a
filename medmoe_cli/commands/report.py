"""`medmoe report`: one self-contained HTML page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medmoe_cli.session import session_of


def report(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run as -m takes it: its name, DATASET/METHOD/RUN/fold_0, or a path.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for report.html and its pictures; 'report' in the run's folder."),
    ] = None,
) -> None:
    """Tell what a run is, how good it is and where it fails, on one page that opens anywhere.

    Scores per structure, the best, median and worst case, curves, the planner's reasons, the experts' work, how to
    reproduce it. The page needs no network and no script.

    Example: medmoe report run-001
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.report import run_report

    result = run_report(workspace=session.workspace, run=run, output=output, reporter=session.console)
    console = session.console
    console.json(result)
    console.print(f"{result.run}: {result.result}")
    console.print(f"report: {result.page}")
    console.next_command(result.next_command)
