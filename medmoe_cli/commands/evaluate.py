"""`medmoe evaluate`: predictions against references, per class, with counts and confidence intervals."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.session import session_of

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.evaluate import EvaluationSummary, Tolerances

# The table has one line per class; these are in summary.json only.
_ONLY_IN_THE_FILE = {"AbsoluteVolumeError", "RelativeVolumeError"}
_SHORT = {"VolumeError": "ΔV"}


def evaluate(
    context: typer.Context,
    predictions: Annotated[
        Path, typer.Option("--predictions", "-p", help="Folder of predicted label maps, or a file.")
    ],
    references: Annotated[Path, typer.Option("--references", "-g", help="Folder of true label maps, or a file.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="summary.json to write, or its folder; run.json goes beside it."),
    ] = None,
    convention: Annotated[
        str,
        typer.Option(
            help="How to score: medmoe (distances in mm, misses counted), or as the numbers you compare with were "
            "made: nnunet, transunet (MoE-SAM's tables), segmote."
        ),
    ] = "medmoe",
    tolerance_mm: Annotated[
        list[str] | None,
        typer.Option(
            help="Distance that NSD forgives: a number for all classes (2 when not given), or CLASS=NUMBER; repeatable."
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name or path of the dataset that names the labels; else a dataset.json near the files."),
    ] = None,
    ignore_geometry: Annotated[
        bool, typer.Option("--ignore-geometry", help="Compare voxel by voxel although the grids lie elsewhere.")
    ] = False,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Score the predicted cases although others are missing.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", min=1, help="Processes; chosen by cores and cases when not given.")
    ] = None,
) -> None:
    """Score predictions: Dice, IoU, HD95, HD, NSD, ASSD and volume error, per case and class.

    Files are paired by name. Grids are compared before voxels are: a mask that lies elsewhere is refused.

    Example: medmoe evaluate -p masks/ -g labels/ -o summary.json
    """
    session = session_of(context)
    tolerances = _tolerances(tolerance_mm or [])
    from medmoe_cli.core.workflows.evaluate import run_evaluate

    summary = run_evaluate(
        predictions=predictions,
        references=references,
        output=output,
        dataset=None if dataset is None else session.workspace.dataset(dataset),
        tolerances=tolerances,
        convention=convention,
        workers=workers,
        ignore_geometry=ignore_geometry,
        ignore_missing=ignore_missing,
        reporter=session.console,
    )
    session.console.json(summary.to_json())
    header, rows = _table(summary)
    session.console.table(f"{len(summary.cases)} cases", header, rows, caption=_caption(summary))
    folders = f"-p {shlex.quote(str(predictions))} -g {shlex.quote(str(references))}"
    if output is None:
        session.console.next_command(f"medmoe evaluate {folders} --convention {convention} -o summary.json")
    else:
        other = "nnunet" if convention != "nnunet" else "medmoe"
        session.console.next_command(f"medmoe evaluate {folders} --convention {other}")


def _tolerances(given: list[str]) -> Tolerances:
    from medmoe_cli.core.workflows.evaluate import Tolerances

    default, by_name = Tolerances().default_mm, {}
    for text in given:
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not value > 0 or math.isinf(value) or (equals and not name):
            raise ConfigError(
                f"unusable tolerance '{text}'",
                where="--tolerance-mm",
                why="a positive number of mm is expected, or CLASS=NUMBER",
                fix="for instance --tolerance-mm 2 --tolerance-mm liver=1.5",
            )
        if equals:
            by_name[name] = value
        else:
            default = value
    return Tolerances(default_mm=default, by_name_mm=by_name)


def _table(summary: EvaluationSummary) -> tuple[list[str], list[list[Any]]]:
    shown = [column for column in summary.convention.columns if column.name not in _ONLY_IN_THE_FILE]
    header = ["class"]
    for column in shown:
        header.append(f"{_SHORT.get(column.name, column.name)} {column.unit}".rstrip())
        if column.name == "Dice":
            header.append("95% CI")
    classes = summary.aggregate.classes
    lines = [(item.scored.name, item.statistics, item.num_missed, item.num_false_positive) for item in classes]
    missed, false_positive = sum(line[2] for line in lines), sum(line[3] for line in lines)
    if len(lines) > 1:
        lines.append(("all", dict(summary.aggregate.overall), missed, false_positive))
    header += ["n", *(["missed", "false pos."] if missed or false_positive else [])]
    rows: list[list[Any]] = []
    for name, statistics, *absent in lines:
        row: list[Any] = [name]
        for column in shown:
            value = statistics[column.name]
            row.append(None if math.isnan(value.mean) else value.mean)
            if column.name == "Dice":
                found = value.interval
                row.append(None if found is None else f"{found.low:.3f}–{found.high:.3f}")
        dice = statistics["Dice"]
        rows.append([*row, f"{dice.n_used}/{dice.n_total}", *(absent if missed or false_positive else [])])
    return header, rows


def _caption(summary: EvaluationSummary) -> str:
    parts = [f"convention {summary.convention.name}: {summary.convention.description}."]
    if any(column.name == "NSD" for column in summary.convention.columns):
        widths = sorted({summary.tolerances.of(scored) for scored in summary.classes})
        parts.append(f"NSD within {', '.join(f'{width:g}' for width in widths)} mm. ΔV: volume error.")
    parts.append("n: Dice values used / possible.")
    hd95 = summary.aggregate.overall.get("HD95")
    if hd95 is not None and hd95.penalised_mean is not None and hd95.penalised_mean != hd95.mean:
        parts.append(
            "Distances leave out missed and false positive masks; "
            f"with the image's diagonal for those, HD95 is {hd95.penalised_mean:.3g} mm."
        )
    return " ".join(parts)
