"""DATASHEET.md of a high-quality collection: what a reader must know before training on it or sharing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medmoe_cli.core.config.datasheet import DataSheet, MemberFacts

_UNKNOWN = "unknown"


def datasheet_text(sheet: DataSheet) -> str:
    """The sheet as Markdown."""
    lines = [
        f"# {sheet.name}",
        "",
        f"{sheet.masks:,} masks on {sheet.images:,} images (slices of volumes, pictures) of {len(sheet.members)} "
        f"datasets, chosen by quality in the way of SegMoTE's MedSeg-HQ (section 3.6; there 154,569 masks of twelve "
        "datasets). The images stay in the members; this folder names the masks.",
        "",
        f"- Selection: {sheet.rule}; seed {sheet.seed}.",
        f"- By hand: {f'masks excluded by {sheet.exclusions}' if sheet.exclusions else 'nothing was excluded'}.",
        f"- Split: {sheet.splits}.",
        "- Only labelled training cases are used; test cases of the members stay out.",
        "- The quality score tells sharp, rich, well outlined masks from blurred specks of the same class. It does not "
        "know whether a mask is right: look at contact_sheets/, and exclude what is wrong (--exclude FILE).",
        "",
        "## Quality score",
        "",
        *(f"- {line}" for line in sheet.formula),
        "",
        "quality.csv holds every mask with its terms, score, rank, and why it was not taken.",
        "",
        "## Members",
        "",
        *_table(
            ("dataset", "in the paper", "modality", "cases", "patients", "images", "masks", "selected", "excluded"),
            [
                (
                    member.dataset,
                    member.source or "no",
                    member.modality or _UNKNOWN,
                    f"{member.cases_selected} of {member.cases}",
                    f"{member.patients_selected} of {member.patients}",
                    f"{member.images_selected:,} of {member.images:,}",
                    f"{member.masks:,}",
                    _share(member),
                    f"{member.masks_excluded:,}",
                )
                for member in sheet.members
            ],
        ),
        "",
        "## Modalities",
        "",
        *_table(
            ("modality", "datasets", "images", "masks"),
            [
                (one.modality or _UNKNOWN, ", ".join(one.members), f"{one.images:,}", f"{one.masks:,}")
                for one in sheet.modalities
            ],
        ),
        "",
        "## Classes",
        "",
        *_table(
            ("class", "selected", "of", "by member"),
            [
                (
                    one.name,
                    f"{one.selected:,}",
                    f"{one.masks:,}",
                    ", ".join(f"{member} {count:,}" for member, count in one.members.items()),
                )
                for one in sheet.classes
            ],
        ),
        "",
        "## Licences",
        "",
        "Each member keeps its own licence; what is made of all of them is bound by all of them.",
        "",
        *_table(
            ("dataset", "licence", "reference"),
            [(member.dataset, member.licence or _UNKNOWN, member.reference) for member in sheet.members],
        ),
        "",
    ]
    lines += _missing(sheet)
    return "\n".join(lines)


def _missing(sheet: DataSheet) -> list[str]:
    if not sheet.missing:
        return ["All twelve datasets of the paper are there.", ""]
    return [
        f"## Missing: {len(sheet.missing)} of the paper's twelve",
        "",
        *_table(
            ("dataset", "modality", "where to get it", "then"),
            [(one.source, one.modality, one.obtain or _UNKNOWN, f"`{one.command}`") for one in sheet.missing],
        ),
        "",
    ]


def _share(member: MemberFacts) -> str:
    share = member.masks_selected / member.masks if member.masks else 0.0
    return f"{member.masks_selected:,} ({share:.1%})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        cells = [" ".join(cell.replace("|", "\\|").split()) for cell in row]
        yield f"| {' | '.join(cells)} |"
