"""`medmoe evaluate`: predictions against references, or clicks simulated from them, with confidence intervals."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medmoe_cli.commands.arguments import Workers
from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.session import Session, session_of

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.evaluate import EvaluationSummary, Tolerances
    from medmoe_cli.core.workflows.scoring.click_scores import ClassClicks, ClickSummary

# The table has one line per class; these are in summary.json only.
_ONLY_IN_THE_FILE = {"AbsoluteVolumeError", "RelativeVolumeError"}
_MOST_COLUMNS = 8
_SHORT = {"VolumeError": "ΔV"}


_CLICKS = "Simulated clicks"


def evaluate(
    context: typer.Context,
    references: Annotated[Path, typer.Option("--references", "-g", help="Folder of true label maps, or a file.")],
    predictions: Annotated[
        Path | None, typer.Option("--predictions", "-p", help="Folder of predicted label maps, or a file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="summary.json (clicks.json) to write, or its folder; run.json goes beside it."
        ),
    ] = None,
    simulate_clicks: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Instead of -p: click N times on every structure of the scans, and score the mask after each click.",
            rich_help_panel=_CLICKS,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="A model, as predict takes it; several are averaged.", rich_help_panel=_CLICKS
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", "-i", help="A scan or a folder of scans.", rich_help_panel=_CLICKS)
    ] = None,
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:1.", rich_help_panel=_CLICKS)
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32, bf16 or 16.", rich_help_panel=_CLICKS)] = "auto",
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
    workers: Workers = None,
) -> None:
    """Score predictions: Dice, IoU, HD95, HD, NSD, ASSD and volume error, per case and class.

    Files are paired by name. Grids are compared before voxels are: a mask that lies elsewhere is refused. With
    --simulate-clicks a model is asked, and Dice is drawn against the number of clicks.

    Example: medmoe evaluate -p masks/ -g labels/ -o summary.json

    Example: medmoe evaluate --simulate-clicks 5 -m RUN -i scans/ -g labels/ -o clicks.json
    """
    session = session_of(context)
    dataset_folder = None if dataset is None else session.workspace.dataset(dataset)
    if simulate_clicks is not None:
        _refuse(
            "does nothing with --simulate-clicks",
            {
                "--predictions": predictions is not None,
                "--convention": convention != "medmoe",
                "--tolerance-mm": bool(tolerance_mm),
                "--ignore-geometry": ignore_geometry,
                "--workers": workers is not None,
            },
        )
        if source is None:
            fix = "medmoe evaluate --simulate-clicks N -m MODEL -i SCANS -g LABELS"
            raise ConfigError("missing --input", where="medmoe evaluate", why="a model is shown scans", fix=fix)
        from medmoe_cli.core.workflows.scoring.simulate_clicks import run_simulate_clicks

        clicked = run_simulate_clicks(
            workspace=session.workspace,
            source=source,
            references=references,
            clicks=simulate_clicks,
            models=tuple(models or ()),
            output=output,
            dataset=dataset_folder,
            ignore_missing=ignore_missing,
            device=device,
            precision=precision,
            reporter=session.console,
        )
        _render_clicks(session, clicked, source=source, references=references, models=models or [], output=output)
        return
    _refuse(
        "needs --simulate-clicks",
        {
            "--model": bool(models),
            "--input": source is not None,
            "--device": device != "auto",
            "--precision": precision != "auto",
        },
    )
    if predictions is None:
        fix = "medmoe evaluate -p MASKS -g LABELS, or --simulate-clicks N -m MODEL -i SCANS -g LABELS"
        raise ConfigError("missing --predictions", where="medmoe evaluate", fix=fix)
    tolerances = _tolerances(tolerance_mm or [])
    from medmoe_cli.core.workflows.evaluate import run_evaluate

    summary = run_evaluate(
        predictions=predictions,
        references=references,
        output=output,
        dataset=dataset_folder,
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


def _refuse(why: str, given: dict[str, bool]) -> None:
    """Options that would be passed over in silence."""
    problems: list[MedMoEError] = [
        ConfigError(f"{name} {why}", where="medmoe evaluate", fix="leave it out, or see medmoe evaluate --help")
        for name, present in given.items()
        if present
    ]
    raise_all(problems)


def _render_clicks(
    session: Session, summary: ClickSummary, *, source: Path, references: Path, models: list[str], output: Path | None
) -> None:
    session.console.json(summary.to_json())
    shown = _shown_clicks(summary.num_clicks)
    curves = [*summary.classes, *([summary.overall] if len(summary.classes) > 1 else [])]
    header = ["class", *(f"{clicks} click{'s' if clicks > 1 else ''}" for clicks in shown), "95% CI", "n"]
    session.console.table(
        f"Dice, {len(summary.cases)} cases",
        header,
        [_click_row(item, shown) for item in curves],
        caption=f"clicks on {'each slice that shows the structure' if summary.dims == 2 else 'each structure'}; "
        "the interval is that of the last column. n: Dice values used / possible.",
    )
    if summary.picture is not None:
        session.console.info(f"drawn in {summary.picture}")
    named = "".join(f" -m {shlex.quote(model)}" for model in models)
    folders = f"-i {shlex.quote(str(source))}"
    if output is None:
        again = f"medmoe evaluate --simulate-clicks {summary.num_clicks}{named} {folders}"
        session.console.next_command(f"{again} -g {shlex.quote(str(references))} -o clicks.json")
    else:
        prompts = f"--prompts-from {shlex.quote(str(references))} --prompt-type point --clicks {summary.num_clicks}"
        session.console.next_command(f"medmoe predict {folders} -o MASKS{named} {prompts}")


def _shown_clicks(number: int) -> list[int]:
    """Every number of clicks, or those that tell the curve's shape."""
    if number <= _MOST_COLUMNS:
        return list(range(1, number + 1))
    return sorted({*(clicks for clicks in (1, 2, 3, 5, 10, 20, 50) if clicks < number), number})


def _click_row(item: ClassClicks, shown: list[int]) -> list[Any]:
    means = [item.scores[clicks - 1].mean for clicks in shown]
    last = item.scores[-1]
    interval = None if last.interval is None else f"{last.interval.low:.3f}–{last.interval.high:.3f}"
    return [item.name, *means, interval, f"{last.n_used}/{last.n_total}"]


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
