"""What a merged model's MODEL_CARD.md says of the merge."""

from __future__ import annotations

from medmoe_cli.core.config.merge_report import MergeReport


def merge_section(report: MergeReport) -> str:
    """The card's section as Markdown."""
    lines = [
        "## Merged experts",
        "",
        f"A gate chooses per query between the general decoder and {len(report.experts)} specific ones; an expert",
        f"joins above probability {report.tau:g} ({report.tau_why}).",
        "",
        f"Mean Dice on held-out cases, {report.clicks} clicks or a box ({report.grid} grid):",
        "",
        "| task | owner | prompts | n | general | expert | merged |",
        "|---|---|---|---|---|---|---|",
    ]
    for score in report.tasks:
        expert = "" if score.expert is None else f"{score.expert:.3f}"
        lines.append(
            f"| {score.task} | {score.owner} | {score.way} | {score.n} | {score.general:.3f} | {expert} | "
            f"{score.merged:.3f} |"
        )
    lines.append("")
    lines += [
        f"- change on the general model's tasks, {way}: {change:+.3f}" for way, change in report.forgetting.items()
    ]
    lines += [
        f"- {name} keeps {share:.0%} of its gain" if share is not None else f"- {name} gained nothing by itself"
        for name, share in report.gain_kept.items()
    ]
    lines += ["", "report.json and report.png, where they came along, hold the whole report."]
    return "\n".join(lines) + "\n"
