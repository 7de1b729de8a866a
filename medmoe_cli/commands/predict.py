"""`medmoe predict`: scans in, masks in their own geometry out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.session import session_of


class PromptType(StrEnum):
    """What is simulated from reference masks."""

    POINT = "point"
    BOX = "box"
    MASK = "mask"


def predict(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Option("--input", "-i", help="A scan or a folder of scans (NIfTI, NRRD, MHA, PNG, JPG, TIFF, DICOM)."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks; made when missing.")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A run, model folder or name; several are averaged. Default: the newest finished run.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Points, boxes and texts per case, in voxels or mm (JSON).")
    ] = None,
    prompts_from: Annotated[
        Path | None, typer.Option(help="Folder of reference masks to simulate prompts from.")
    ] = None,
    prompt_type: Annotated[PromptType, typer.Option(help="What --prompts-from simulates.")] = PromptType.BOX,
    clicks: Annotated[
        int, typer.Option(min=0, help="With --prompts-from: clicks in all for points, correction clicks for the rest.")
    ] = 0,
    text: Annotated[
        list[str] | None, typer.Option(help="A class to look for, or any words if the model takes them; repeatable.")
    ] = None,
    mirroring: Annotated[
        bool, typer.Option("--mirroring/--no-mirroring", help="Average over mirrored images where a model is made so.")
    ] = True,
    postprocessing: Annotated[
        bool,
        typer.Option(
            "--postprocessing/--no-postprocessing",
            help="Apply the rules learned in training, such as largest component, to what was not prompted.",
        ),
    ] = True,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also write one float map per class.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Also write a picture per case.")] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Also write volumes and intensities per structure.")
    ] = False,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N parts of the cases.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace masks that are there already.")] = False,
    modality: Annotated[
        str | None,
        typer.Option(
            help="Models of a collection: show scans as these of its members (CT, MR, or a member's name); told from "
            "each scan when not given."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:1.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32, bf16 or 16.")] = "auto",
) -> None:
    """Segment scans; each mask lies exactly where its scan does.

    Without prompts a model finds its classes by itself, or looks for each by name. Several -m make an ensemble: the
    models' probabilities are averaged; they may differ in method, preset and input size, not in classes. Running the
    same command again does only what is missing.

    Example: medmoe predict -i scans/ -o masks/ --prompts prompts.json --preview
    """
    session = session_of(context)
    from medmoe_cli.core.workflows.predict import PredictOptions, run_predict

    options = PredictOptions(
        prompts=prompts,
        prompts_from=prompts_from,
        prompt_type=prompt_type.value,
        clicks=clicks,
        text=tuple(text or ()),
        mirroring=mirroring,
        postprocessing=postprocessing,
        save_probabilities=save_probabilities,
        preview=preview,
        statistics=statistics,
        shard=_parse_shard(shard),
        overwrite=overwrite,
        modality=modality,
        device=device,
        precision=precision,
    )
    result = run_predict(
        workspace=session.workspace,
        source=source,
        output=output,
        models=tuple(models or ()),
        options=options,
        reporter=session.console,
    )
    console = session.console
    console.json(result)
    done = [case for case in result.cases if case.status != "failed"]
    rows = [[case.id, case.status, case.error or str(case.mask)] for case in result.cases]
    console.table(f"{len(done)} of {len(result.cases)} cases in {output}", ["case", "status", "mask"], rows)
    console.next_command(f"medmoe evaluate -p {output} -g LABELS")
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _parse_shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, slash, total = text.partition("/")
    if not (slash and part.isdigit() and total.isdigit()):
        raise ConfigError(
            f"cannot read --shard {text}", why="it is not of the form I/N", fix="for instance --shard 1/4"
        )
    return int(part), int(total)
