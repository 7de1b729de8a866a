"""`medmoe convert`: a public release or a plain folder becomes a dataset."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medmoe_cli.console import Console
from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.session import session_of

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.convert import ConvertResult

_SHOWN = 12


def convert(
    context: typer.Context,
    source: Annotated[Path | None, typer.Argument(help="The folder to convert.", show_default=False)] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help="Source format; medmoe convert --list names them.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name in the workspace.")] = None,
    list_formats: Annotated[bool, typer.Option("--list", help="List the source formats and stop.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset of that name.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core up to 8.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Convert only the first N cases.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="folder: where the images are.", rich_help_panel="Format options")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="folder: where the labels are.", rich_help_panel="Format options")
    ] = None,
    image_suffix: Annotated[
        str | None,
        typer.Option(
            help="folder: what follows the case id in image names; _dwi,_adc are channels.",
            rich_help_panel="Format options",
        ),
    ] = None,
    label_suffix: Annotated[
        str | None,
        typer.Option(
            help="folder: what follows the case id in label names (default: _mask, _seg, _label, _gt and the like).",
            rich_help_panel="Format options",
        ),
    ] = None,
    label_map: Annotated[
        str | None,
        typer.Option(help="folder: source to dataset values, 63:1,126:2 (0 drops).", rich_help_panel="Format options"),
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(help="folder, ssl4mis-h5: class names by value, liver,spleen.", rich_help_panel="Format options"),
    ] = None,
    class_files: Annotated[
        bool,
        typer.Option(
            "--class-files",
            help="folder: one mask file per class, CASE_CLASS.png or CASE_CLASS_000.png.",
            rich_help_panel="Format options",
        ),
    ] = False,
    threshold: Annotated[
        int | None,
        typer.Option(help="folder: masks are binary, foreground above this.", rich_help_panel="Format options"),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channel names, T1,T2.", rich_help_panel="Format options")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="For instance CT; it decides the intensity window.", rich_help_panel="Format options"),
    ] = None,
    spacing: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z",
            help="ssl4mis-h5, folder: voxel size in mm of bare arrays.",
            rich_help_panel="Format options",
        ),
    ] = None,
    patient_regex: Annotated[
        str | None,
        typer.Option(help=r"The first group of a match is the patient: '(.+)_\d+'.", rich_help_panel="Format options"),
    ] = None,
    overlap: Annotated[
        Literal["higher", "lower"] | None,
        typer.Option(
            help="imed361m, sam-med3d, folder: which class keeps a contested voxel (default: higher).",
            rich_help_panel="Format options",
        ),
    ] = None,
    allow_unmatched: Annotated[
        bool,
        typer.Option(
            "--allow-unmatched",
            help="folder: leave files without a partner out instead of refusing.",
            rich_help_panel="Format options",
        ),
    ] = False,
    subset: Annotated[
        str | None,
        typer.Option(
            help="sam-med3d: only this class, as a binary dataset (or several, liver,spleen).",
            rich_help_panel="Format options",
        ),
    ] = None,
) -> None:
    r"""Convert a public release or a plain folder to a dataset in the nnU-Net v2 layout.

    Example: medmoe convert CXR --format folder --name cxr --label-names lung
    """
    session = session_of(context)
    console = session.console
    from medmoe_cli.core.workflows import convert as workflow

    if list_formats:
        rows = workflow.list_formats()
        console.json(rows)
        console.table("formats", ["name", "what", "modality"], [[r.name, r.description, r.modality] for r in rows])
        console.next_command("medmoe convert SOURCE --format FORMAT --name NAME")
        return
    if source is None or name is None:
        missing = "SOURCE" if source is None else "--name"
        raise ConfigError(
            f"missing {missing}", where="medmoe convert", fix="medmoe convert SOURCE --format F --name NAME"
        )
    result = workflow.run_convert(
        workspace=session.workspace,
        source=source,
        format=format_name,
        name=name,
        options=workflow.ConvertOptions(
            images=images,
            labels=labels,
            image_suffixes=_names(image_suffix),
            label_suffix=label_suffix,
            label_map=_numbers(label_map),
            label_names=_names(label_names),
            class_files=class_files,
            threshold=threshold,
            channels=_names(channels),
            modality=modality,
            spacing_mm=spacing,
            patient_regex=patient_regex,
            overlap=overlap,
            allow_unmatched=allow_unmatched,
            subset=_names(subset),
        ),
        overwrite=overwrite,
        workers=workers,
        limit=limit,
        reporter=console,
    )
    _render(console, result)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _render(console: Console, result: ConvertResult) -> None:
    written = result.written
    kept = {field.name: getattr(written, field.name) for field in fields(written) if field.name != "inputs"}
    console.json({"name": result.name, "format": result.format, "exit_code": result.exit_code, **kept})
    found = written.training + written.test + len(written.failed) + len(written.skipped)
    rows = [
        ["found", str(found)],
        ["converted", f"{written.training} training, {written.test} test"],
        ["patients", str(written.patients)],
        ["failed", str(len(written.failed))],
        ["skipped", str(len(written.skipped))],
    ]
    for kind, left_out in (("failed", written.failed), ("skipped", written.skipped)):
        rows += [[kind, f"{one.what}: {one.why}"] for one in left_out[:_SHOWN]]
        if len(left_out) > _SHOWN:
            rows.append([kind, f"and {len(left_out) - _SHOWN} more, all in {written.root / 'run.json'}"])
    rows += [["note", note] for note in written.notes]
    console.table(f"{result.name} ({result.format})", ["what", "found"], rows)
    console.table(
        "classes",
        ["value", "name", "source values", "cases", "voxels"],
        [
            [row.value, row.name, ", ".join(map(str, row.source_values)), row.cases, row.voxels]
            for row in written.classes
        ],
        caption=str(written.root),
    )
    console.next_command(f"medmoe check {result.name}")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _numbers(text: str | None) -> dict[int, int]:
    """'63:1,126:2' as a mapping."""
    mapping: dict[int, int] = {}
    for part in _names(text):
        source, colon, target = part.partition(":")
        if not colon or not source.strip().isdigit() or not target.strip().isdigit() or int(source) in mapping:
            raise ConfigError(
                f"bad --label-map '{part}'", why="SOURCE:TARGET once per source", fix="--label-map 63:1,126:2"
            )
        mapping[int(source)] = int(target)
    return mapping
