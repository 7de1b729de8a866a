"""`medmoe models`: add pretrained weights, list what the workspace holds, show one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmoe_cli.session import session_of

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.models import ModelEntry

models = typer.Typer(help="Pretrained backbones: add a checkpoint, list them, show one.", no_args_is_help=True)


@models.command("add")
def add_model_command(
    context: typer.Context,
    architecture: Annotated[str, typer.Argument(help="sam-vit-b, sam-vit-l, sam-vit-h, imisnet-b or sam-med3d.")],
    path: Annotated[Path, typer.Argument(help="The public checkpoint, .pth or .safetensors.")],
    name: Annotated[
        str | None, typer.Option(help="Keep it under another name, for instance for a fine-tuned SAM.")
    ] = None,
) -> None:
    """Convert a public checkpoint to safetensors, report every key, and keep it in the workspace."""
    session = session_of(context)
    from medmoe_cli.core.workflows.models import add_model

    added = add_model(
        workspace=session.workspace, architecture=architecture, path=path, name=name, reporter=session.console
    )
    console, record, keys = session.console, added.record, added.record.keys
    console.json({"folder": added.folder, "cached": added.cached, **record.model_dump()})
    console.table(
        f"{record.name}{' (already there)' if added.cached else ''}",
        ["what", "value"],
        [
            ["folder", str(added.folder)],
            ["parameters", f"{record.parameters:,}"],
            ["tensors loaded", str(keys.loaded)],
            ["missing", "0"],
            ["new, to be trained", ", ".join(keys.new) or "none"],
            ["unexpected", str(len(keys.unexpected))],
            ["left out, known", str(len(keys.left_out))],
            ["public file", {None: "unknown", True: "yes", False: "no"}[record.source_is_public]],
            ["licence", record.licence],
        ],
    )
    console.next_command(f"medmoe models show {record.name}")


@models.command("list")
def list_models_command(context: typer.Context) -> None:
    """List the models and trained runs of the workspace, and the backbones that could be added."""
    session = session_of(context)
    from medmoe_cli.core.workflows.models import list_models

    found = list_models(session.workspace)
    console = session.console
    console.json(
        {
            "models": [
                {"name": entry.name, "size_mb": entry.size_mb, "problem": entry.problem, "record": entry.record}
                for entry in found.models
            ],
            "trained": list(found.trained),
            "available": list(found.available),
        }
    )
    if found.models:
        console.table(
            f"models in {session.workspace.models}",
            ["name", "architecture", "parameters", "MB", "licence", "added", "problem"],
            [_row(entry) for entry in found.models],
        )
    else:
        console.print(f"no models yet in {session.workspace.models}")
    if found.trained:
        console.table(
            "trained, newest first",
            ["name", "step", "folder"],
            [[run.name, run.step, str(run.folder)] for run in found.trained],
        )
    if found.available:
        console.table(
            "backbones that can be added",
            ["architecture", "file", "from", "licence"],
            [[facts.name, facts.file, facts.source, facts.licence] for facts in found.available],
        )
        console.next_command(f"medmoe models add {found.available[0].name} {found.available[0].file}")
    else:
        console.next_command("medmoe presets list")


def _row(entry: ModelEntry) -> list[str | float | None]:
    record = entry.record
    if record is None:
        return [entry.name, None, None, entry.size_mb, None, None, entry.problem]
    kept = (entry.name, record.architecture, record.parameters, entry.size_mb)
    return [*kept, record.licence, record.added[:10], entry.problem]


@models.command("show")
def show_model_command(
    context: typer.Context, name: Annotated[str, typer.Argument(help="A model's name, or its folder.")]
) -> None:
    """Show one model and check that its weights are those that were added."""
    session = session_of(context)
    from medmoe_cli.core.workflows.models import show_model

    entry = show_model(session.workspace, name)
    console, record = session.console, entry.record
    assert record is not None
    console.json({"folder": entry.folder, "size_mb": entry.size_mb, "intact": True, **record.model_dump()})
    keys = record.keys
    console.table(
        record.name,
        ["what", "value"],
        [
            ["folder", str(entry.folder)],
            ["architecture", record.architecture],
            ["parameters", f"{record.parameters:,}"],
            ["size", f"{entry.size_mb} MB"],
            ["weights", "intact (sha256 checked)"],
            ["sha256", record.tensors_sha256],
            ["made from", f"{record.source_file} (sha256 {record.source_sha256[:16]}...)"],
            [
                "tensors",
                f"{keys.loaded} loaded, {len(keys.new)} new, {len(keys.unexpected)} unexpected, "
                f"{len(keys.left_out)} left out",
            ],
            ["licence", record.licence],
            ["added", f"{record.added} by medmoe {record.medmoe}"],
        ],
    )
    console.next_command("medmoe presets list")
