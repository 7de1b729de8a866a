"""`medmoe models`: add pretrained weights, list what the workspace holds, show one, export and import trained ones."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmoe_cli.session import Session, session_of

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.model_files.shared_model import SharedEntry
    from medmoe_cli.core.workflows.models import ModelEntry

models = typer.Typer(
    help="Backbones and trained models: add a public checkpoint, list, show, export, import.", no_args_is_help=True
)


@models.command("add")
def add_model_command(
    context: typer.Context,
    architecture: Annotated[str, typer.Argument(help="sam-vit-b, sam-vit-l, sam-vit-h, imisnet-b, sam-med3d or sam3.")],
    path: Annotated[
        Path, typer.Argument(help="The public checkpoint, .pth or .safetensors; of SAM3 also the folder of its files.")
    ],
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
            "shared": [_shared_json(entry) for entry in found.shared],
            "trained": list(found.trained),
            "available": list(found.available),
        }
    )
    if found.shared:
        console.table(
            f"trained models in {session.workspace.models}",
            ["name", "method", "dataset", "classes", "MB", "problem"],
            [_shared_row(entry) for entry in found.shared],
        )
    if found.models:
        console.table(
            f"models in {session.workspace.models}",
            ["name", "architecture", "parameters", "MB", "licence", "added", "problem"],
            [_row(entry) for entry in found.models],
        )
    elif not found.shared:
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


def _shared_json(entry: SharedEntry) -> dict[str, object]:
    record = entry.record
    known = {} if record is None else {"method": record.method, "medmoe": record.medmoe, "files": record.files}
    return {"name": entry.name, "folder": entry.folder, "size_mb": entry.size_mb, "problem": entry.problem, **known}


def _shared_row(entry: SharedEntry) -> list[str | float | None]:
    record = entry.record
    if record is None:
        return [entry.name, None, None, None, entry.size_mb, entry.problem]
    classes = ", ".join(record.class_names)
    return [entry.name, record.method, record.dataset, classes, entry.size_mb, entry.problem]


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
    from medmoe_cli.core.workflows.models import ModelEntry, show_model

    entry = show_model(session.workspace, name)
    console = session.console
    if not isinstance(entry, ModelEntry):
        _show_shared(session, entry)
        return
    record = entry.record
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


def _show_shared(session: Session, entry: SharedEntry) -> None:
    record = entry.record
    assert record is not None
    session.console.json({**_shared_json(entry), "intact": True, "documents": record.documents})
    session.console.table(
        entry.name,
        ["what", "value"],
        [
            ["folder", str(entry.folder)],
            ["method", record.method],
            ["dataset", record.dataset],
            ["classes", ", ".join(record.class_names)],
            ["experts", ", ".join(record.experts) or "none"],
            ["size", f"{entry.size_mb} MB"],
            ["files", "intact (sha256 checked)"],
            ["written by", f"medmoe {record.medmoe}"],
        ],
    )
    session.console.next_command(f"medmoe predict -i SCANS -o MASKS -m {shlex.quote(entry.name)}")


@models.command("export")
def export_model_command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A run, model folder or name, as predict -m takes it.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file that ends in .zip, or a folder. Its name is the model's.")
    ],
    licence: Annotated[
        Path | None, typer.Option(help="Text file that becomes LICENSE; else one is written that names the parts'.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write a trained model to share: weights, model.json, a model card and a licence; nothing in it is code.

    Example: medmoe models export liver/segmote/run-001 -o liver-segmote.zip
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.model_files.export_model import export_model

    written = export_model(
        workspace=session.workspace,
        model=model,
        output=output,
        licence=licence,
        overwrite=overwrite,
        reporter=session.console,
    )
    console = session.console
    console.json(written)
    if written.licence == "generated":
        console.info("LICENSE names the licences of the model's parts; add your own terms with --licence FILE")
    console.table(
        written.name,
        ["what", "value"],
        [
            ["written", str(written.path)],
            ["method", written.method],
            ["classes", ", ".join(written.class_names)],
            ["files", ", ".join(written.files)],
            ["size", f"{written.size_mb} MB"],
            ["sha256 of the weights", written.weights_sha256],
        ],
    )
    console.next_command(f"medmoe models import {shlex.quote(str(written.path))} --name {written.name}")


@models.command("import")
def import_model_command(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A zip or a folder that models export wrote.")],
    name: Annotated[str | None, typer.Option(help="Keep it under another name than the file's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")] = False,
) -> None:
    """Bring a shared model into the workspace; it is checked whole before anything of it is kept.

    Example: medmoe models import liver-segmote.zip --name liver
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.model_files.import_model import import_model

    kept = import_model(
        workspace=session.workspace, source=source, name=name, overwrite=overwrite, reporter=session.console
    )
    console = session.console
    console.json(kept)
    console.table(
        kept.name,
        ["what", "value"],
        [
            ["folder", str(kept.folder)],
            ["method", kept.method],
            ["paper", kept.paper],
            ["classes", ", ".join(kept.class_names)],
            ["answers", ", ".join(kept.prompt_kinds)],
            ["experts", ", ".join(kept.experts) or "none"],
            ["files", f"{len(kept.files)}, intact (sha256 checked)"],
        ],
    )
    console.next_command(f"medmoe predict -i SCANS -o MASKS -m {kept.name}")
