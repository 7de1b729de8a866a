"""`medmoe preprocess`: every training case onto the network's grid, resumable."""

from __future__ import annotations

from typing import Annotated

import typer

from medmoe_cli.commands.arguments import Assignments, Data, PlannedDevice, Preset, Workers
from medmoe_cli.session import session_of


def preprocess(
    context: typer.Context,
    data: Data,
    method: Annotated[str, typer.Option(help="The method to preprocess for, for instance moe-sam.")],
    preset: Preset = None,
    assignments: Assignments = None,
    device: PlannedDevice = "auto",
    workers: Workers = None,
) -> None:
    """Put every training case onto the network's grid, one file per case; train does this itself when needed.

    A restart reuses what is finished; damaged files and cases whose input has changed are made again.

    Example: medmoe preprocess btcv --method segmote --workers 4
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.preprocess import run_preprocess

    result = run_preprocess(
        workspace=session.workspace,
        data=data,
        method=method,
        preset=preset,
        assignments=assignments or [],
        device=device,
        workers=workers,
        reporter=session.console,
    )
    console = session.console
    console.json(result)
    unit = "slices" if result.plan.dims == 2 else "volumes"
    console.print(
        f"{result.num_cases} cases ({result.num_reused} reused), {result.num_samples} {unit}, "
        f"{result.num_bytes / 1e6:.1f} MB" + ("" if result.members else f" in {result.folder}")
    )
    for one in result.members:
        console.print(f"member {one.dataset}: {one.num_cases} cases, {one.num_samples} {unit} in {one.folder}")
    if result.preset_why:
        console.info(f"preset {result.plan.preset}: {result.preset_why}")
    console.next_command(f"medmoe train --method {method} --data {data} --preset {preset or result.plan.preset}")
