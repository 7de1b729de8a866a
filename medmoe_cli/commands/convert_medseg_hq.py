"""`medmoe convert medseg-hq`: a collection of the masks worth learning from, out of the datasets of the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medmoe_cli.console import Console
from medmoe_cli.core.base.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmoe_cli.core.workflows.medseg.build import MedSegHqResult, SourceRow

WORD = "medseg-hq"
OPTIONS = ("name", "members", "masks", "fraction", "exclude", "seed", "overwrite", "workers", "dry_run")
"""What it understands of the options of `convert`."""


def build(
    console: Console,
    workspace: Workspace,
    *,
    name: str | None,
    members: tuple[str, ...],
    masks: int | None,
    fraction: float | None,
    exclude: Path | None,
    seed: int | None,
    overwrite: bool,
    workers: int | None,
    dry_run: bool,
    again: str,
) -> None:
    """Build it, or say what it would be built from; `again` is the command without --dry-run."""
    from medmoe_cli.core.workflows.medseg import build as workflow

    name = name or workflow.DEFAULT_NAME
    options = workflow.MedSegHqOptions(members=members, masks=masks, fraction=fraction, exclude=exclude, seed=seed or 0)
    if dry_run:
        rows = workflow.list_sources(workspace, name=name, options=options)
        console.json({"name": name, "sources": rows})
        _sources(console, rows)
        console.next_command(again if any(row.dataset for row in rows) else rows[0].command)
        return
    result = workflow.run_medseg_hq(
        workspace=workspace,
        name=name,
        options=options,
        overwrite=overwrite,
        workers=workers,
        reporter=console,
    )
    _render(console, result)


def _render(console: Console, result: MedSegHqResult) -> None:
    sheet = result.sheet
    console.json({"root": result.root, "sources": result.sources, "datasheet": sheet})
    _sources(console, result.sources)
    console.table(
        f"{sheet.name}: {sheet.masks:,} masks on {sheet.images:,} images",
        ["member", "modality", "cases", "images", "masks", "usable", "selected", "excluded"],
        [
            [
                one.dataset,
                one.modality,
                one.cases,
                one.images,
                one.masks,
                one.masks_usable,
                one.masks_selected,
                one.masks_excluded,
            ]
            for one in sheet.members
        ],
        caption=sheet.rule,
    )
    console.print(f"look at {result.root / 'contact_sheets'}; what is wrong goes into a file for --exclude")
    console.next_command(f"medmoe train --method segmote --data {sheet.name}")


def _sources(console: Console, rows: Sequence[SourceRow]) -> None:
    missing = [row for row in rows if not row.dataset]
    console.table(
        "the paper's datasets",
        ["dataset", "modality", "here", "labelled cases"],
        [
            [row.title or "(another)", row.modality, row.dataset or "missing", str(row.cases) if row.dataset else ""]
            for row in rows
        ],
    )
    if missing:
        console.table(
            "missing",
            ["dataset", "where to get it", "then"],
            [[row.title, row.obtain, row.command] for row in missing],
        )
