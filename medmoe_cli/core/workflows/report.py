"""report: one page that tells a reader what a run is, how good it is, and where it fails.

`report.html` holds everything it shows; its pictures also lie beside it. What a run lacks is named on the page, with
the reason, and the rest is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.imaging.formats import PICTURES, ending_of
from medmoe_cli.core.reporting.decisions import decision_blocks, rule_blocks
from medmoe_cli.core.reporting.glossary import GLOSSARY
from medmoe_cli.core.reporting.members import member_routing, member_rules, member_scores
from medmoe_cli.core.reporting.page import Block, Missing, Page, Section, Text, is_page, render
from medmoe_cli.core.reporting.routing_use import routing_blocks, routing_case_tables
from medmoe_cli.core.reporting.scores import case_table, score_blocks, ways_table
from medmoe_cli.core.reporting.training import training_blocks
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel, load_model
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.reports.cases import case_blocks
from medmoe_cli.core.workflows.reports.model import feature_blocks, parameter_blocks
from medmoe_cli.core.workflows.reports.sources import RunSources, find_dataset, find_fold, read_sources
from medmoe_cli.core.workflows.reports.words import (
    NOT_VALIDATED,
    about_blocks,
    footer,
    predict_command,
    reproduce_blocks,
    result_line,
)

PAGE_NAME, FOLDER_NAME = "report.html", "report"


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingPart:
    """A part of the report that could not be made, and why."""

    part: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportResult:
    """A written report.

    Attributes:
        run: DATASET/METHOD/RUN/fold_N.
        page: report.html.
        pictures: the PNGs beside it, in the page's order.
        result: the page's headline.
        missing: what could not be shown.
        next_command: how to use the run.
    """

    run: str
    page: Path
    pictures: tuple[Path, ...]
    result: str
    missing: tuple[MissingPart, ...]
    next_command: str


def run_report(*, workspace: Workspace, run: str, output: Path | None = None, reporter: Reporter) -> ReportResult:
    """Write the report of a run.

    Args:
        workspace: where names resolve.
        run: a name or path as `predict -m` takes it, or one fold.
        output: folder for the page and its pictures; FOLD/report when not given.
        reporter: receives progress and warnings.

    Raises:
        ConfigError: several folds go by that name, a shared model, or an output that is taken by something else.
        CheckpointError: no such run, or its plan or configuration cannot be read.
        DataError: another of its files is damaged (absent ones are named on the page).
        ResourceError: the disk is full.
    """
    fold = find_fold(run, workspace=workspace)
    folder = output if output is not None else fold / FOLDER_NAME
    _check_output(folder)
    with RunRecorder("report", folder=None, reporter=reporter, arguments={"run": run, "output": output}) as record:
        sources = read_sources(fold)
        page = _page(sources, workspace=workspace, reporter=record)
        pictures = tuple(folder / f"{picture.name}.png" for picture in page.pictures)
        stale = _earlier_pictures(folder) - set(pictures)
        for path, picture in zip(pictures, page.pictures, strict=True):
            atomic.write_bytes(path, picture.png)
        target = atomic.write_text(folder / PAGE_NAME, render(page))
        for path in stale:
            path.unlink(missing_ok=True)
        record.folder = folder
        for path in (target, *pictures):
            record.add_output(path)
        missing = tuple(MissingPart(part=block.part, why=block.why) for block in page.missing)
        for item in missing:
            record.warn(f"not in the report: {item.part}. {item.why}")
        return ReportResult(
            run=sources.name,
            page=target,
            pictures=pictures,
            result=result_line(sources),
            missing=missing,
            next_command=predict_command(sources),
        )


def _check_output(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError("not a folder", where=folder, why="a report is a folder of files", fix="choose another -o")
    page = folder / PAGE_NAME
    if page.exists() and not (page.is_file() and is_page(page.read_text(encoding="utf-8", errors="replace"))):
        raise ConfigError(f"another {PAGE_NAME} is there", where=folder, why="it is not ours", fix="choose another -o")


def _earlier_pictures(folder: Path) -> set[Path]:
    """The pictures that an earlier report left here, by its own record."""
    try:
        record = jsonio.read(folder / "run.json")
    except DataError:
        return set()
    if not isinstance(record, dict) or record.get("verb") != "report":
        return set()
    names = (Path(str(path)).name for path in record.get("outputs") or ())
    return {folder / name for name in names if name.endswith(".png")}


def _page(sources: RunSources, *, workspace: Workspace, reporter: Reporter) -> Page:
    parts = _Parts(sources, workspace, reporter)
    builders: tuple[tuple[str, Callable[[], tuple[Block, ...]]], ...] = (
        ("What this is", parts.about),
        ("Result", parts.scores),
        ("Best, median and worst case", parts.cases),
        ("Training", lambda: training_blocks(sources.curves)),
        ("What was decided from the data", lambda: (*decision_blocks(sources.plan), *member_rules(sources.plan))),
        ("Post-processing", lambda: rule_blocks(sources.rules)),
        ("Experts", parts.routing),
        ("Feature maps", parts.features),
        ("Size of the network", parts.parameters),
        ("How to reproduce it", lambda: reproduce_blocks(sources, parts.model)),
        ("Every case", parts.every_case),
        ("Words", lambda: (GLOSSARY,)),
    )
    reporter.start("report", len(builders))
    sections = []
    for title, build in builders:
        sections.append(Section(title=title, blocks=build()))
        reporter.advance(title)
    reporter.finish()
    return Page(
        title=f"{sources.card.title} on {sources.plan.dataset}",
        subtitle=f"Report of the run {sources.name}",
        footer=footer(),
        sections=tuple(sections),
    )


class _Parts:
    """Builds the sections that need the dataset or the model; both are looked for once."""

    def __init__(self, sources: RunSources, workspace: Workspace, reporter: Reporter) -> None:
        self.sources, self.workspace = sources, workspace
        self.dataset: Dataset | None = None
        self.model: LoadedModel | None = None
        self.no_dataset = self.no_model = ""
        try:
            self.dataset = find_dataset(sources, workspace=workspace)
        except MedMoEError as error:
            self.no_dataset = f"The dataset cannot be read: {error.line()}"
        try:
            self.model = load_model(sources.fold, workspace=workspace, reporter=reporter)
        except MedMoEError as error:
            self.no_model = f"The weights cannot be read: {error.line()}"

    def about(self) -> tuple[Block, ...]:
        return about_blocks(self.sources, self.dataset, workspace=self.workspace)

    def scores(self) -> tuple[Block, ...]:
        summary, prompting = self.sources.summary, self.sources.prompting
        if summary is None:
            return (Missing(part="scores per structure", why=NOT_VALIDATED),)
        members = member_scores(self.sources.plan, summary)
        by_name = {name: self.sources.colours[value] for value, name in self.sources.class_names.items()}
        blocks = (*score_blocks(summary, by_name), *members)
        if ending_of(summary.metric_per_case[0].reference_file) in PICTURES and "HD95" in summary.overall:
            text = "These pictures carry no pixel size: distances and volumes count a pixel as 1 mm."
            blocks = (Text(text=text, tone="warning"), *blocks)
        return (*blocks, ways_table(prompting)) if prompting is not None and prompting.ways else blocks

    def every_case(self) -> tuple[Block, ...]:
        summary, routing = self.sources.summary, self.sources.routing
        first = Missing(part="table of cases", why=NOT_VALIDATED) if summary is None else case_table(summary)
        return (first, *(routing_case_tables(routing) if routing is not None else ()))

    def cases(self) -> tuple[Block, ...]:
        why = NOT_VALIDATED if self.sources.summary is None else self.no_dataset
        if self.dataset is None or self.sources.summary is None:
            return (Missing(part="cases", why=why),)
        return case_blocks(self.sources, self.dataset)

    def routing(self) -> tuple[Block, ...]:
        routing = self.sources.routing
        if routing is None:
            why = "The run has no validation/routing.json: no router took part in its validation."
            why = NOT_VALIDATED if self.sources.summary is None else why
            return (Missing(part="use of the experts", why=why),)
        if not routing.places:
            return (Missing(part="use of the experts", why="The network has no routers."),)
        return (*routing_blocks(routing), *member_routing(self.sources.plan, routing))

    def features(self) -> tuple[Block, ...]:
        if self.model is None or self.dataset is None or self.sources.summary is None:
            why = self.no_model or (NOT_VALIDATED if self.sources.summary is None else self.no_dataset)
            return (Missing(part="feature maps", why=why),)
        return feature_blocks(self.model, self.sources, self.dataset)

    def parameters(self) -> tuple[Block, ...]:
        if self.model is None:
            return (Missing(part="parameters", why=self.no_model),)
        return parameter_blocks(self.model.segmenter)
