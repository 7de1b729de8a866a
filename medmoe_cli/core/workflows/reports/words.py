"""The report's first and last sections: what this run is, and how to have it again."""

from __future__ import annotations

import shlex
from pathlib import Path

import medmoe_cli
from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.splits import FILE_NAME, Split, split
from medmoe_cli.core.reporting.decisions import structures
from medmoe_cli.core.reporting.numbers import DASH, count, duration
from medmoe_cli.core.reporting.page import Block, Code, Missing, Table, Text
from medmoe_cli.core.reporting.scores import headline
from medmoe_cli.core.reporting.training import training_seconds
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel
from medmoe_cli.core.workflows.reports.sources import RunSources

NOT_VALIDATED = (
    "The run has no validation/summary.json: its training is not finished, or was stopped before validation."
)
_PROMPTED_BY = {
    "box": "a box around each structure{where}, made from the reference. The numbers hold for a reader who "
    "draws such boxes; they do not say how well structures are found",
    "point": "one click into each structure{where}, made from the reference. The numbers do not say how well "
    "structures are found",
    "text": "the structures' names alone",
    "none": "nothing but the scan",
}


def result_line(sources: RunSources) -> str:
    """The one line that says how good it is, or why nobody knows."""
    return NOT_VALIDATED if sources.summary is None else headline(sources.summary)


def about_blocks(sources: RunSources, dataset: Dataset | None, *, workspace: Workspace) -> tuple[Block, ...]:
    """The result in a line, how to read it, and the facts."""
    resume = f"medmoe train --method {sources.plan.method} --data {sources.plan.dataset}"
    resume += f" --fold {sources.fold_name} --name {sources.fold.parent.name} --resume"
    blocks: list[Block] = []
    if sources.summary is None:
        blocks.append(Missing(part="the result", why=f"{NOT_VALIDATED} To finish: {resume}"))
    else:
        blocks += [Text(text=result_line(sources), tone="result"), *_reading(sources)]
    blocks.append(
        Table(
            caption="In short",
            columns=("", ""),
            rows=tuple(_facts(sources, dataset, workspace)),
            numbers=False,
        )
    )
    return tuple(blocks)


def _reading(sources: RunSources) -> list[Block]:
    assert sources.summary is not None
    notes: list[Block] = []
    if sources.fold_name == "all":
        notes.append(
            Text(
                text="The model was trained on the very cases it is scored on (fold 'all'): the numbers say how well "
                "it learned them, not how it does on new ones.",
                tone="warning",
            )
        )
    else:
        notes.append(
            Text(
                text="The model did not learn from the validation cases; they only helped to choose which epoch's "
                "weights to keep, so expect slightly less on new cases.",
                tone="note",
            )
        )
    way = sources.prompting.masks_prompted_by if sources.prompting is not None else None
    if way is None and not set(sources.card.prompts) - {"none"}:
        way = "none"
    if way in _PROMPTED_BY:
        where = " on each slice" if sources.plan.dims == 2 else ""
        text = f"For these masks the model was given {_PROMPTED_BY[way].format(where=where)}."
        notes.append(Text(text=text, tone="warning" if way in {"box", "point"} else "note"))
    if sources.summary.n_cases < 10:
        text = f"Only {count(sources.summary.n_cases, 'case')}: means and intervals are rough."
        notes.append(Text(text=text, tone="warning"))
    return notes


def _facts(sources: RunSources, dataset: Dataset | None, workspace: Workspace) -> list[tuple[str, str]]:
    plan, card, record = sources.plan, sources.card, sources.record
    cases = _split(sources, dataset, workspace)
    seconds = training_seconds(sources.curves)
    modality = dataset.modality if dataset is not None and dataset.modality else "not stated"
    return [
        ("Method", f"{card.title}: {card.summary}"),
        ("Published as", card.paper),
        ("Preset", plan.preset),
        ("Dataset", f"{plan.dataset} (modality {modality})"),
        ("Structures", structures(plan)),
        (
            "Cases",
            f"{len(cases.train)} for training, {len(cases.validation)} for validation (fold {sources.fold_name})"
            if cases is not None
            else f"fold {sources.fold_name}; how many is not known without the dataset",
        ),
        ("Trained", DASH if record is None else record.started.replace("T", " ").replace("+00:00", " UTC")),
        ("Training time", DASH if seconds is None else duration(seconds)),
        ("Folder", str(sources.fold)),
    ]


def _split(sources: RunSources, dataset: Dataset | None, workspace: Workspace) -> Split | None:
    if dataset is None:
        return None
    folder = workspace.preprocessed / dataset.name
    try:
        return split(dataset, sources.fold_name, folder=folder if (folder / FILE_NAME).is_file() else None)
    except MedMoEError:
        return None


def reproduce_blocks(sources: RunSources, model: LoadedModel | None) -> tuple[Block, ...]:
    """The commands, then what they ran with."""
    record = sources.record
    blocks: list[Block] = []
    if record is None:
        blocks.append(Missing(part="the command", why="The run has no run.json of its training."))
    else:
        blocks += [Text(text="To train it again:"), Code(lines=(train_command(sources),))]
    blocks += [Text(text="To use it on new scans:"), Code(lines=(predict_command(sources),))]
    rows = [
        ("seed", str(sources.config.values["train"].get("seed", DASH))),
        ("data fingerprint (sha256)", sources.plan.fingerprint_sha256),
        ("weights (sha256)", DASH if model is None else model.sha256),
        ("weights from", DASH if model is None else _within(model.source, sources.fold)),
    ]
    versions = record.versions if record is not None else {}
    rows += [(name, version) for name, version in versions.items()]
    blocks.append(Table(caption="What it ran with", columns=("What", "Value"), rows=tuple(rows), numbers=False))
    changed = [
        (key, str(sources.config.values[section].get(name)), origin)
        for key, origin in sources.config.origins.items()
        for section, _, name in [key.partition(".")]
        if origin != "default"
    ]
    if changed:
        blocks.append(
            Table(
                caption="Settings that are not the defaults",
                columns=("Setting", "Value", "Set by"),
                rows=tuple(changed),
                numbers=False,
                note="All settings: config.resolved.yaml in the run's folder.",
            )
        )
    return tuple(blocks)


def train_command(sources: RunSources) -> str:
    """The training as it would be typed today, from the arguments that it was given."""
    arguments = {} if sources.record is None else sources.record.arguments
    words = [
        "medmoe",
        "train",
        "--method",
        sources.plan.method,
        "--data",
        str(arguments.get("data", sources.plan.dataset)),
    ]
    words += ["--preset", sources.plan.preset, "--fold", sources.fold_name]
    for key in ("epochs", "steps", "precision"):
        if arguments.get(key) is not None:
            words += [f"--{key}", str(arguments[key])]
    if arguments.get("devices", 1) != 1:
        words += ["--devices", str(arguments["devices"])]
    for assignment in arguments.get("assignments") or ():
        words += ["--set", str(assignment)]
    return shlex.join(words)


def predict_command(sources: RunSources) -> str:
    """How to use the run; by name where it has one."""
    return f"medmoe predict -i SCANS -o MASKS -m {shlex.quote(sources.name)}"


def footer() -> str:
    """The page's last line."""
    return f"Made by medmoe {medmoe_cli.__version__}. For research; not a medical device."


def _within(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
