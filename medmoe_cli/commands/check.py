"""`medmoe check`: every defect of a dataset, in one pass."""

from __future__ import annotations

from typing import Annotated

import typer

from medmoe_cli.session import session_of

_SHOWN = 200


def check(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A dataset's name, or its folder.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core up to 8.")] = None,
) -> None:
    """Find every defect of a dataset in one pass, as a table or (--json) as JSON.

    Example: medmoe check btcv --json
    """
    session = session_of(context)
    console = session.console
    from medmoe_cli.core.workflows.check import run_check

    result = run_check(workspace=session.workspace, data=data, workers=workers, reporter=console)
    report = result.report
    errors, warnings = len(report.errors), len(report.findings) - len(report.errors)
    console.json(
        {**report.model_dump(exclude={"findings"}), "findings": report.findings, "exit_code": result.exit_code}
    )
    if report.findings:
        console.table(
            f"{report.dataset}: {errors} errors, {warnings} warnings",
            ["severity", "code", "case", "file", "what", "fix"],
            [[one.severity, one.code, one.case, one.file, one.message, one.fix] for one in report.findings[:_SHOWN]],
            caption=f"all {len(report.findings)} in {result.file}" if len(report.findings) > _SHOWN else None,
        )
    for one in result.members:
        found = len(one.errors)
        console.print(
            f"member {one.dataset}: {one.num_training} training and {one.num_test} test cases, "
            f"{found} errors, {len(one.findings) - found} warnings"
        )
    console.print(
        f"{report.dataset}: {report.num_training} training and {report.num_test} test cases, "
        f"{errors} errors, {warnings} warnings"
    )
    if result.exit_code:
        console.next_command(f"correct the errors, then medmoe check {data}")
        raise typer.Exit(result.exit_code)
    console.next_command(f"medmoe plan {data} --method METHOD --explain")
