"""convert medseg-hq: the masks of many datasets scored, ranked and chosen, as a collection that names them.

The images stay where they are. The folder holds dataset.json (`sources`), selection.csv (what is trained on),
quality.csv (every mask with its terms, score, rank and why it was not taken), splits_final.json, contact_sheets/ and
the datasheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.datasheet import DataSheet
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import load_preset
from medmoe_cli.core.data.exclusions import Exclusion, excluded_rows, read_exclusions, unknown_members
from medmoe_cli.core.data.medseg_sources import PAPER_SOURCES, missing_sources
from medmoe_cli.core.data.quality_scan import FOLDER as QUALITY_FOLDER
from medmoe_cli.core.data.quality_scan import group_by_value, measured_masks, read_table
from medmoe_cli.core.data.selection import (
    KEPT_OF_SMALL,
    KEPT_WHOLE,
    PAPER_FRACTION,
    PAPER_MASKS,
    Group,
    quotas,
    usable,
)
from medmoe_cli.core.data.write_dataset import require_absent
from medmoe_cli.core.reporting.datasheet import datasheet_text
from medmoe_cli.core.workflows.collect import hold_out
from medmoe_cli.core.workflows.configure import ChosenPreset, configure
from medmoe_cli.core.workflows.medseg.members import MeasuredMember, Member, common_classes, find_members, no_member
from medmoe_cli.core.workflows.medseg.write import Writing, write_members
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.plan import ensure_plan

METHOD, PRESET = "segmote", "segmote-medseg-hq"
DEFAULT_NAME = "medseg-hq"


@dataclass(frozen=True, kw_only=True, slots=True)
class MedSegHqOptions:
    """What to choose.

    Attributes:
        members: of `find_members`.
        masks: so many in all.
        fraction: this share of each class of each member.
        exclude: the veto file.
        seed: of the draws and the split.
    """

    members: tuple[str, ...] = ()
    masks: int | None = None
    fraction: float | None = None
    exclude: Path | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """One of the paper's twelve, or another member.

    Attributes:
        title: as the paper writes it; '' for another.
        dataset: the member that is it; '' where it is missing.
        modality: CT, MR, X-ray or dermoscopy.
        command, obtain: how to convert it, and where to get it first.
        cases: of the member, with a label.
    """

    title: str
    dataset: str
    modality: str
    command: str = ""
    obtain: str = ""
    cases: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MedSegHqResult:
    """A built collection.

    Attributes:
        root: its folder.
        sheet: what is in it.
        sources: the paper's twelve, then other members.
    """

    root: Path
    sheet: DataSheet
    sources: tuple[SourceRow, ...]


def list_sources(
    workspace: Workspace, *, name: str = DEFAULT_NAME, options: MedSegHqOptions | None = None
) -> tuple[SourceRow, ...]:
    """What `run_medseg_hq` would be built from; no voxel is read.

    Raises:
        ConfigError: bad options, or exclusions that name no member.
        DataError: as `find_members`.
    """
    options = options or MedSegHqOptions()
    _require_sane(options)
    members = find_members(workspace, options.members, name=name)
    if options.exclude is not None:
        exclusions = read_exclusions(options.exclude)
        raise_all(unknown_members(exclusions, [member.name for member in members], options.exclude))
    return _source_rows(members)


def run_medseg_hq(
    *,
    workspace: Workspace,
    name: str = DEFAULT_NAME,
    options: MedSegHqOptions | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    reporter: Reporter,
) -> MedSegHqResult:
    """Build WORKSPACE/datasets/NAME from the datasets of the workspace.

    Args:
        workspace: where the members are and the collection goes.
        name: the collection's.
        options: what to choose.
        overwrite: replace a dataset of that name; masks that were measured before are not measured again.
        workers: processes; None chooses.
        reporter: hears of every case.

    Raises:
        ConfigError: bad options, an existing dataset, exclusions that name nothing.
        DataError: no member, or members that cannot be used.
        ResourceError: no disk, no memory, a dead worker.
    """
    options = options or MedSegHqOptions()
    _require_sane(options)
    root = workspace.datasets / name
    require_absent(root, overwrite=overwrite)
    arguments = {"name": name, "overwrite": overwrite, **jsonio.plain(options)}
    with RunRecorder("convert", folder=None, reporter=reporter, arguments=arguments, seed=options.seed) as run:
        members = find_members(workspace, options.members, name=name)
        if not members:
            raise no_member(workspace, name=name)
        vocabulary = common_classes(members)
        exclusions = read_exclusions(options.exclude) if options.exclude is not None else ()
        if options.exclude is not None:
            raise_all(unknown_members(exclusions, [member.name for member in members], options.exclude))
            run.add_input(options.exclude)
        measured = [_measured(member, workspace, workers=workers, reporter=run) for member in members]
        sizes = _sizes(measured, exclusions, options.exclude)
        complete = not missing_sources([member.source for member in members if member.source is not None])
        masks = options.masks
        if complete and masks is None and options.fraction is None and sum(sizes.values()) >= PAPER_MASKS:
            masks = PAPER_MASKS
        kept = quotas(sizes, fraction=options.fraction, masks=masks)
        writing = Writing(
            name=name,
            members=tuple(measured),
            vocabulary=vocabulary,
            quotas=kept,
            exclusions=exclusions,
            exclude=options.exclude,
            seed=options.seed,
            rule=_rule(masks, options.fraction),
            missing=missing_sources([member.source for member in members if member.source is not None]),
        )
        sheets: list[DataSheet] = []

        def fill(folder: Path) -> None:
            sheet = write_members(folder, writing, reporter=run)
            jsonio.write(folder / "datasheet.json", sheet)
            atomic.write_text(folder / "DATASHEET.md", datasheet_text(sheet))
            sheets.append(sheet)

        atomic.sweep(workspace.datasets)
        atomic.replace_dir(root, fill)
        hold_out(root)
        run.folder = root
        run.add_output(root)
    return MedSegHqResult(root=root, sheet=sheets[0], sources=_source_rows(members))


def _source_rows(members: Sequence[Member]) -> tuple[SourceRow, ...]:
    present = {one.source.title: one for one in members if one.source is not None}
    twelve = [
        SourceRow(
            title=source.title,
            dataset=present[source.title].name if source.title in present else "",
            modality=source.modality,
            command=source.command,
            obtain=source.obtain,
            cases=len(present[source.title].dataset.training) if source.title in present else 0,
        )
        for source in PAPER_SOURCES
    ]
    others = [
        SourceRow(title="", dataset=one.name, modality=one.dataset.modality, cases=len(one.dataset.training))
        for one in members
        if one.source is None
    ]
    return (*twelve, *others)


def member_plan(member: Member, workspace: Workspace, *, workers: int | None, reporter: Reporter) -> tuple[Plan, str]:
    """A member's own plan, for its slice axis and intensity rule, and the sha256 of its files."""
    overrides = configure(ChosenPreset(preset=load_preset(PRESET), why="")).plan
    planned = ensure_plan(
        workspace=workspace,
        dataset=member.dataset,
        method=METHOD,
        preset=PRESET,
        overrides=overrides,
        workers=workers,
        reporter=reporter,
    )
    return planned.plan, planned.fingerprint.inputs_sha256


def _measured(member: Member, workspace: Workspace, *, workers: int | None, reporter: Reporter) -> MeasuredMember:
    plan, inputs_sha256 = member_plan(member, workspace, workers=workers, reporter=reporter)
    table = measured_masks(
        member.dataset,
        plan,
        inputs_sha256=inputs_sha256,
        folder=workspace.preprocessed / member.name / QUALITY_FOLDER,
        workers=workers,
        reporter=reporter,
    )
    return MeasuredMember(member=member, plan=plan, table=table)


def _sizes(
    measured: Sequence[MeasuredMember], exclusions: Sequence[Exclusion], exclude: Path | None
) -> dict[Group, int]:
    """How many masks of each class of each member there are to choose from."""
    sizes: dict[Group, int] = {}
    problems: list[MedMoEError] = []
    for one in measured:
        table = read_table(one.table)
        free = usable(table)
        if exclude is not None:
            excluded, unknown = excluded_rows(
                exclusions, table, member=one.name, cases=one.cases, names=one.names, path=exclude
            )
            problems += unknown
            free &= ~excluded
        for value, places in group_by_value(table).items():
            sizes[Group(one.name, value)] = int(free[places].sum())
    raise_all(problems)
    return sizes


def _rule(masks: int | None, fraction: float | None) -> str:
    drawn = "drawn from the best one and a half times as many of its class"
    if masks is not None:
        return f"{masks:,} masks, the same share of every class of every member, {drawn}"
    if fraction is not None:
        return f"{fraction:.1%} of every class of every member, {drawn}"
    return (
        f"{PAPER_FRACTION:.1%} of every class of every member, about the paper's share of its complete sources, but "
        f"all of a class up to {KEPT_WHOLE} masks and half of one up to {KEPT_OF_SMALL}, {drawn}"
    )


def _require_sane(options: MedSegHqOptions) -> None:
    problems: list[MedMoEError] = []
    if options.masks is not None and options.fraction is not None:
        problems.append(ConfigError("--masks and --fraction", why="both say how many masks", fix="give one of them"))
    if options.masks is not None and options.masks < 1:
        problems.append(ConfigError(f"--masks {options.masks}", why="at least one is needed", fix="--masks 154569"))
    if options.fraction is not None and not 0 < options.fraction <= 1:
        problems.append(
            ConfigError(
                f"--fraction {options.fraction:g}", why="it is a share above 0, 1 at most", fix="--fraction 0.5"
            )
        )
    raise_all(problems)
