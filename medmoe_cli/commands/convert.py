"""`medmoe convert`: a public release or a plain folder becomes a dataset."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medmoe_cli.commands import convert_collection, convert_medseg_hq
from medmoe_cli.console import Console
from medmoe_cli.core.base.errors import ConfigError, raise_all
from medmoe_cli.session import session_of

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.convert import ConvertResult

_SHOWN = 12
_SAID = ("source", "source_after_format", "format_name", "name", "dry_run")
"""What `_again` is told."""


def convert(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(help="The folder to convert, or a zip or tar of it.", show_default=False),
    ] = None,
    source_after_format: Annotated[
        Path | None,
        typer.Argument(
            metavar="", help="The source, where a format is named first: convert auto SOURCE.", show_default=False
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="Source format, or auto; medmoe convert --list names them."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name in the workspace.")] = None,
    list_formats: Annotated[bool, typer.Option("--list", help="List the source formats and stop.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset of that name.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core up to 8.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Convert only the first N cases.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
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
            help="Which class keeps a voxel that several masks claim (default: higher).",
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
            help="Parts of a release: modalities, parts or classes, as the format names them (ct,mr; liver,spleen).",
            rich_help_panel="Format options",
        ),
    ] = None,
    label_scheme: Annotated[
        str | None,
        typer.Option(help="synapse-transunet: which order of values the files have.", rich_help_panel="Format options"),
    ] = None,
    members: Annotated[
        str | None,
        typer.Option(
            help="Datasets to join: a,b. For medseg-hq +a,+b adds to those that are recognised, and a=btcv says "
            "what a is.",
            rich_help_panel="convert medseg-hq, convert collection",
        ),
    ] = None,
    masks: Annotated[
        int | None,
        typer.Option(help="Masks to keep in all (the paper: 154569).", rich_help_panel="convert medseg-hq"),
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(help="Share of each class's masks to keep.", rich_help_panel="convert medseg-hq"),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            help="Masks that a person refuses: MEMBER/CASE, MEMBER/CASE/SLICE or MEMBER/CASE/SLICE/CLASS, one a line.",
            rich_help_panel="convert medseg-hq",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of the draws and of the patients held out.",
            rich_help_panel="convert medseg-hq, convert collection",
        ),
    ] = None,
) -> None:
    r"""Convert a public release or a plain folder to a dataset in the nnU-Net v2 layout.

    Example: medmoe convert CXR --format folder --name cxr --label-names lung
    """
    session = session_of(context)
    console = session.console
    from medmoe_cli.core.workflows import convert as workflow

    if str(source) == convert_medseg_hq.WORD:
        _only(context, convert_medseg_hq.OPTIONS, f"medmoe convert {source}")
        convert_medseg_hq.build(
            console,
            session.workspace,
            name=name,
            members=_names(members),
            masks=masks,
            fraction=fraction,
            exclude=exclude,
            seed=seed,
            overwrite=overwrite,
            workers=workers,
            dry_run=dry_run,
            again=_again(context, convert_medseg_hq.WORD, "--name", name or convert_medseg_hq.WORD),
        )
        return
    if str(source) == convert_collection.WORD:
        _only(context, convert_collection.OPTIONS, f"medmoe convert {source}")
        convert_collection.build(
            console,
            session.workspace,
            name=name,
            members=_names(members),
            seed=seed,
            overwrite=overwrite,
            dry_run=dry_run,
            again=_again(context, convert_collection.WORD, "--name", name or ""),
        )
        return
    if any(value is not None for value in (members, masks, fraction, exclude, seed)):
        raise ConfigError(
            "--members, --masks, --fraction, --exclude and --seed do nothing for a release",
            why=f"they are options of convert {convert_medseg_hq.WORD} and convert {convert_collection.WORD}",
            fix="leave them out",
        )
    if list_formats:
        rows = workflow.list_formats()
        console.json(rows)
        console.table(
            "formats",
            ["name", "what", "modality", "classes", "licence", "where to get it"],
            [[r.name, r.description, r.modality, r.classes, r.licence, r.obtain] for r in rows],
        )
        console.next_command("medmoe convert SOURCE --format FORMAT --name NAME")
        return
    if source_after_format is not None:
        source, format_name = source_after_format, _first_word(source, format_name, workflow.is_format)
    if name is None and dry_run and source is not None:
        name = "unnamed"
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
            label_scheme=label_scheme,
        ),
        overwrite=overwrite,
        workers=workers,
        limit=limit,
        dry_run=dry_run,
        reporter=console,
    )
    _render(console, result, _again(context, str(source), "--format", result.format.split()[0], "--name", name))
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _render(console: Console, result: ConvertResult, again: str) -> None:
    from medmoe_cli.core.workflows.convert import tables

    written = result.written
    console.json({"name": result.name, "format": result.format, "exit_code": result.exit_code, **tables(written)})
    done = "would be converted" if written.planned else "converted"
    rows: list[list[str]] = [
        ["found", str(written.found)],
        [done, f"{written.training} training, {written.test} test"],
        ["patients", str(written.patients)],
        ["split", written.split],
        ["failed", str(len(written.failed))],
        ["skipped", str(len(written.skipped))],
    ]
    if written.reused:
        rows.append(["taken over", f"{written.reused} cases that an interrupted conversion had finished"])
    for kind, left_out in (("failed", written.failed), ("skipped", written.skipped)):
        rows += [[kind, f"{one.what}: {one.why}"] for one in left_out[:_SHOWN]]
        if len(left_out) > _SHOWN:
            where = "--json lists all" if written.planned else f"all in {written.root / 'run.json'}"
            rows.append([kind, f"and {len(left_out) - _SHOWN} more, {where}"])
    rows += [["note", note] for note in written.notes]
    console.table(f"{result.name} ({result.format})", ["what", "found"], rows)
    if written.planned:
        console.table(
            "classes that would be written",
            ["value", "name", "source values"],
            [[row.value, row.name, ", ".join(map(str, row.source_values))] for row in written.classes],
            caption=f"nothing was written; it would go to {written.root}",
        )
        console.next_command(again)
        return
    console.table(
        "label values, expected and seen",
        ["source value", "meaning", "value", "cases", "voxels"],
        [[row.value, row.meaning, row.becomes, row.cases, row.voxels] for row in written.values],
    )
    grids = [[row.what, row.cases] for row in written.grids]
    labelled = written.training + written.labelled_test
    console.table("grids", ["what", "cases"], grids or [["every label lies on its image's grid", labelled]])
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


def _again(context: typer.Context, *said: str) -> str:
    """The command that writes what a dry run has shown."""
    words = ["medmoe", "convert", *said]
    for parameter in context.command.params:
        origin = context.get_parameter_source(str(parameter.name))
        if origin is None or origin.name != "COMMANDLINE" or parameter.name in _SAID or not parameter.opts[-1:]:
            continue
        value = context.params[str(parameter.name)]
        words.append(parameter.opts[-1])
        words += [] if value is True else [str(part) for part in (value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def _only(context: typer.Context, understood: tuple[str, ...], verb: str) -> None:
    """Refuse options that were given and are not understood."""
    problems = []
    for parameter in context.command.params:
        name, origin = str(parameter.name), context.get_parameter_source(str(parameter.name))
        if origin is not None and origin.name == "COMMANDLINE" and name not in (*understood, "source"):
            what = f"{parameter.opts[-1]} does nothing for {verb}"
            problems.append(ConfigError(what, why="it is for releases", fix="leave it out"))
    raise_all(problems)


def _first_word(word: Path | None, option: str | None, is_format: Callable[[str], bool]) -> str:
    """`convert auto SOURCE`: the format that stands before the source."""
    if not is_format(str(word)):
        raise ConfigError(
            f"unknown format '{word}'", why="a word before SOURCE is its format", fix="medmoe convert --list"
        )
    if option is not None and option != str(word):
        raise ConfigError(f"two formats, '{word}' and --format {option}", fix="name one")
    return str(word)


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
