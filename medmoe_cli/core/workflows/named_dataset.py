"""A dataset by the name or path a user typed; one that is not there says how it comes to be."""

from __future__ import annotations

from pathlib import Path

from medmoe_cli.core.base.errors import DataError, MedMoEError, ProblemList
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.index import open_dataset

_MEDSEG_HQ = "medseg-hq"


def named_folder(workspace: Workspace, data: str) -> Path:
    """The dataset's folder.

    Raises:
        DataError: there is none; for MedSeg-HQ, which members there are and the command that builds it.
    """
    try:
        return workspace.dataset(data)
    except DataError as error:
        if data.casefold() != _MEDSEG_HQ or (workspace.datasets / data).exists():
            raise
        raise _not_built(workspace, data) from error


def named_dataset(workspace: Workspace, data: str) -> Dataset:
    """The dataset, opened.

    Raises:
        DataError: there is none, or it has problems; all of them together.
    """
    return open_dataset(named_folder(workspace, data))


def _not_built(workspace: Workspace, data: str) -> DataError:
    from medmoe_cli.core.workflows.medseg.build import list_sources
    from medmoe_cli.core.workflows.medseg.members import no_member

    what = f"dataset '{data}' is not built yet"
    try:
        rows = list_sources(workspace, name=data)
    except MedMoEError as error:
        problems = error.problems if isinstance(error, ProblemList) else (error,)
        why = "; ".join(f"{one.what}: {one.why}" if one.why else one.what for one in problems)
        return DataError(what, where=workspace.datasets, why=why, fix=f"medmoe convert {_MEDSEG_HQ} --members NAMES")
    there = [f"{row.dataset} ({row.title})" if row.title else row.dataset for row in rows if row.dataset]
    if not there:
        none = no_member(workspace, name=data)
        return DataError(what, where=workspace.datasets, why=none.why, fix=none.fix)
    missing = [row.title for row in rows if not row.dataset]
    why = f"members found: {', '.join(there)}"
    if missing:
        why += f"; missing of the paper's twelve: {', '.join(missing)}"
    return DataError(what, where=workspace.datasets, why=why, fix=f"medmoe convert {_MEDSEG_HQ} --name {data}")
