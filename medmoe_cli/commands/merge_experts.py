"""`medmoe merge-experts`: a general model and task experts become one model that forgets nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmoe_cli.session import session_of

if TYPE_CHECKING:
    from medmoe_cli.console import Console
    from medmoe_cli.core.workflows.merging.options import MergeResult


def merge_experts(
    context: typer.Context,
    expert: Annotated[
        list[str], typer.Option(metavar="NAME=MODEL", help="An expert and the name it goes by; repeatable.")
    ],
    general: Annotated[
        str | None,
        typer.Option(help="The general model that the experts were started from: a run, a model, or sam-med3d."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[OWNER=]DATASET",
            help="Data that teach the gate, of both kinds; OWNER is general or an expert's NAME. Default: the datasets "
            "that the models were trained on. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the merged model; it must not exist.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="MERGED", help="Add to this merged model instead: only its gate learns anew.")
    ] = None,
    tau: Annotated[
        str | None,
        typer.Option(
            metavar="X|auto", help="An expert joins above this probability; auto chooses it on data held out."
        ),
    ] = None,
    fuse: Annotated[str | None, typer.Option(help="Fuse logits or probabilities of the two decoders.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of the gate; 300 when not given.")] = None,
    fold: Annotated[
        str | None, typer.Option(help="Fold whose training cases teach the gate; the models' own when not given.")
    ] = None,
    device: Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:1.")] = "auto",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a value: --set model.gate_learning_rate=1e-6 (the paper's); repeatable."),
    ] = None,
) -> None:
    """Merge task experts with the general model they started from; a gate chooses among them per query.

    Encoder and decoders stay as they are; only the gate learns, on data of the general model's tasks and of the
    experts'. The report says what every task gained or lost on held-out cases.

    Example: medmoe merge-experts --general organs --expert tumour=tumours -o models/organs-and-tumours
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.merge_experts import run_merge_experts
    from medmoe_cli.core.workflows.merging.options import MergeOptions, parse_data, parse_experts, parse_fuse, parse_tau

    options = MergeOptions(
        general=general,
        experts=parse_experts(expert),
        data=parse_data(data or ()),
        output=output,
        into=into,
        tau=parse_tau(tau),
        fuse=parse_fuse(fuse),
        steps=steps,
        fold=fold,
        device=device,
        assignments=tuple(assignments or ()),
    )
    result = run_merge_experts(workspace=session.workspace, options=options, reporter=session.console)
    session.console.json(result)
    _show(session.console, result)
    session.console.next_command(f"medmoe predict -i SCANS -o MASKS -m {result.name} --prompts FILE")


def _show(console: Console, result: MergeResult) -> None:
    report = result.report
    console.table(
        f"Dice on held-out cases ({report.clicks} clicks, or a box; {report.grid} grid)",
        ["task", "owner", "prompts", "n", "general", "expert", "merged"],
        [
            [score.task, score.owner, score.way, score.n, score.general, score.expert, score.merged]
            for score in report.tasks
        ],
        caption="expert: the owner's decoder alone",
    )
    owners = report.routing.owners
    console.table(
        f"whose task (row), whom the selector chose (column); tau {report.tau:g}, {report.tau_why}",
        ["task of", *owners, "opened"],
        [[owner, *row, report.opening[owner]] for owner, row in zip(owners, report.routing.counts, strict=True)],
    )
    for way, change in report.forgetting.items():
        console.print(f"forgetting, {way}: {change:+.3f} Dice on the general model's tasks")
    for name, share in report.gain_kept.items():
        console.print(f"{name}: " + ("the expert gained nothing" if share is None else f"{share:.0%} of its gain kept"))
    for left in report.left_out:
        deltas = ", ".join(f"{owner} {delta:+.3f}" for owner, delta in left.deltas.items())
        console.print(f"without {left.expert}: {deltas}")
    console.print(f"model: {result.folder}")
