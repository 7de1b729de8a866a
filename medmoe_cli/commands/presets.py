"""`medmoe presets`: list the presets, show one with the source of every value."""

from __future__ import annotations

from typing import Annotated

import typer

from medmoe_cli.core.config.presets import load_preset, preset_names
from medmoe_cli.session import session_of

presets = typer.Typer(help="List the presets, or show one.", no_args_is_help=True)


@presets.command("list")
def list_presets(context: typer.Context) -> None:
    """List the presets with their method and purpose."""
    console = session_of(context).console
    found = [load_preset(name) for name in preset_names()]
    console.json([{"name": item.name, "method": item.method, "description": item.description} for item in found])
    console.table(
        "presets", ["name", "method", "what for"], [[item.name, item.method, item.description] for item in found]
    )
    console.next_command("medmoe presets show NAME")


@presets.command("show")
def show_preset(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A preset's name, or the path of a YAML file.")],
) -> None:
    """Print a preset's file: every value with a comment that gives its source."""
    console = session_of(context).console
    preset = load_preset(name)
    console.json({"name": preset.name, "path": preset.path, **preset.values})
    console.print(preset.path.read_text(encoding="utf-8").rstrip())
    console.next_command(f"medmoe train --method {preset.method} --data NAME --preset {preset.name}")
