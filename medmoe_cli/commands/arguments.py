"""Arguments that several commands take, with one help text each."""

from __future__ import annotations

from typing import Annotated

import typer

Data = Annotated[str, typer.Argument(help="A dataset's name in the workspace, or its folder.")]
Preset = Annotated[
    str | None, typer.Option(help="A preset's name or YAML file; chosen by what is there when not given.")
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="Override a value: --set plan.input_size=256; repeatable.")
]
PlannedDevice = Annotated[
    str, typer.Option(help="Where training will run, for the batch size: auto, cpu, cuda or cuda:1.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-j", min=1, help="Processes; chosen by cores and cases when not given.")
]
