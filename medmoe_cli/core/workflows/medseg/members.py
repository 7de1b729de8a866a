"""Which datasets of the workspace a MedSeg-HQ is built from, and which of the paper's twelve are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError, raise_all
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.dataset_file import FILE_NAME
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.medseg_sources import BY_KEY, PAPER_SOURCES, PaperSource, recognise_source
from medmoe_cli.core.data.vocabulary import MergedClass, merge_names

_ADD = "+"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A dataset to take masks from.

    Attributes:
        dataset: as opened.
        content: of its dataset.json.
        source: which of the paper's it is; None for any other.
    """

    dataset: Dataset
    content: dict[str, Any]
    source: PaperSource | None

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.dataset.name

    def told(self, key: str) -> str:
        """A text of dataset.json; '' where it has none."""
        value = self.content.get(key)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredMember:
    """A member, its plan and the file of its measured masks."""

    member: Member
    plan: Plan
    table: Path

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.member.name

    @property
    def cases(self) -> tuple[str, ...]:
        """Ids of the training cases, which a table names by place."""
        return tuple(case.id for case in self.member.dataset.training)

    @property
    def names(self) -> dict[int, str]:
        """Class name by the value in the files."""
        return {value: name for name, value in self.member.dataset.labels.items()}


def find_members(workspace: Workspace, wanted: Sequence[str], *, name: str) -> tuple[Member, ...]:
    """The members, sorted by name; none where none was named and none is recognised (`no_member`).

    Args:
        workspace: where they lie.
        wanted: names; NAME=KEY says which of the paper's datasets NAME is; with a '+' before each, they join those
            that are recognised; none of them: those that are recognised.
        name: of the collection itself, which is no member.

    Raises:
        ConfigError: names that are not there, keys that the paper does not have, two datasets that are the same of
            the paper's.
        DataError: datasets that cannot be used.
    """
    there = _datasets(workspace, name)
    declared = _declared(wanted, there)
    joining = all(entry.startswith(_ADD) for entry in wanted)
    chosen: dict[str, PaperSource | None] = {}
    if joining:
        chosen = {
            one: source for one, content in there.items() if (source := recognise_source(one, content)) is not None
        }
    for one, source in declared.items():
        chosen[one] = source if source is not None else recognise_source(one, there[one])
    _require_distinct(chosen)
    problems: list[MedMoEError] = []
    members = []
    for one in sorted(chosen):
        try:
            dataset = open_dataset(workspace.datasets / one)
        except DataError as error:
            problems.append(error)
            continue
        if not dataset.training:
            problems.append(DataError("no labelled case", where=dataset.root, fix="leave it out of --members"))
        members.append(Member(dataset=dataset, content=there[one], source=chosen[one]))
    raise_all(problems)
    return tuple(members)


def no_member(workspace: Workspace, *, name: str) -> DataError:
    """What to say where `find_members` found none."""
    there = ", ".join(_datasets(workspace, name)) or "there are none"
    return DataError(
        "no member",
        where=workspace.datasets,
        why=f"none of its datasets ({there}) is one of the paper's twelve",
        fix=f"{PAPER_SOURCES[5].command}, and so on; or name datasets: medmoe convert medseg-hq --members a,b",
    )


def common_classes(members: Sequence[Member]) -> tuple[MergedClass, ...]:
    """The common classes; the paper's datasets whose own names mean little alone say what is meant.

    Raises:
        DataError: a member has two names for one class.
    """
    own = {one.name: tuple(one.dataset.labels) for one in members}
    given = {
        one.name: {name: one.source.classes.get(name, name) for name in own[one.name]}
        for one in members
        if one.source is not None and set(own[one.name]) & set(one.source.classes)
    }
    return merge_names(own, given=given)


def _datasets(workspace: Workspace, name: str) -> dict[str, dict[str, Any]]:
    """dataset.json of everything in the workspace that holds images itself."""
    found = {}
    for path in sorted(workspace.datasets.glob(f"*/{FILE_NAME}")):
        content = _content(path)
        if content is not None and not content.get("sources") and path.parent.name != name:
            found[path.parent.name] = content
    return found


def _content(path: Path) -> dict[str, Any] | None:
    """What a dataset.json holds; None where it cannot be read: `check` says why."""
    try:
        content = jsonio.read(path)
    except DataError:
        return None
    return content if isinstance(content, dict) else None


def _declared(wanted: Sequence[str], there: dict[str, dict[str, Any]]) -> dict[str, PaperSource | None]:
    problems: list[MedMoEError] = []
    found: dict[str, PaperSource | None] = {}
    if 0 < sum(entry.startswith(_ADD) for entry in wanted) < len(wanted):
        problems.append(
            ConfigError(
                "some of --members with '+', some without",
                why="with '+' they join what is recognised, without they are all there is",
                fix="--members a,b or --members +a,+b",
            )
        )
    for entry in wanted:
        one, declares, key = entry.removeprefix(_ADD).partition("=")
        if one not in there:
            problems.append(
                ConfigError(f"no dataset '{one}'", where="--members", why=did_you_mean(one, there), fix="correct it")
            )
        elif declares and key not in BY_KEY:
            why = did_you_mean(key, BY_KEY, list_up_to=len(BY_KEY))
            problems.append(
                ConfigError(f"no dataset of the paper '{key}'", where="--members", why=why, fix="correct it")
            )
        else:
            found[one] = BY_KEY[key] if declares else None
    raise_all(problems)
    return found


def _require_distinct(chosen: dict[str, PaperSource | None]) -> None:
    problems = []
    for source in PAPER_SOURCES:
        same = sorted(one for one, of in chosen.items() if of is source)
        if len(same) > 1:
            problems.append(
                ConfigError(
                    f"{len(same)} datasets are {source.title}",
                    why=f"{', '.join(same)}: its masks would count twice",
                    fix=f"name those to use: --members {same[0]},...",
                )
            )
    raise_all(problems)
