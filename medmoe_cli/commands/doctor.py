"""`medmoe doctor`: versions, devices, workspace, and what stands in the way."""

from __future__ import annotations

import typer

from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.session import session_of


def doctor(context: typer.Context) -> None:
    """Say what this machine offers and what would stop medmoe: versions, devices, memory, disk, workspace.

    Example: medmoe doctor --json
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.doctor import run_doctor

    found = run_doctor(session.workspace)
    console = session.console
    console.json(found)
    rows = [
        ["medmoe", found.medmoe],
        ["python", f"{found.python} on {found.platform}"],
        ["devices", ", ".join(found.devices)],
        ["cpu, memory", f"{found.cpu_cores} cores, {found.memory_gb} GB"],
        ["workspace", f"{found.workspace} (from {found.workspace_origin}), {found.workspace_free_gb} GB free"],
        ["presets", str(found.presets)],
        ["models", ", ".join(found.backbones) or "none yet"],
        *[[name, version] for name, version in found.packages.items()],
        *[["problem", text] for text in found.problems],
        *[["advice", text] for text in found.advice],
    ]
    console.table("medmoe doctor", ["what", "found"], rows)
    if found.problems:
        raise typer.Exit(ResourceError.exit_code)
    console.next_command("medmoe demo")
