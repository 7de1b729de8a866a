"""Predict: scans in, masks in the scans' own geometry out, from one model or the average of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError, PartialError, raise_all
from medmoe_cli.core.base.lock import exclusive
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.prompts_file import read_prompts
from medmoe_cli.core.imaging.read import list_scans
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.predicting.predict_case import RECEIPTS, PredictJob
from medmoe_cli.core.workflows.predicting.presence import absent_words
from medmoe_cli.core.workflows.predicting.scans import ScanCase, find_scans

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.predicting.ensemble import Ensemble


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions:
    """What `predict` was asked for.

    Attributes:
        prompts: a prompts file.
        prompts_from: a folder of masks to simulate prompts from, as `prompt_type`, with `clicks`.
        text: classes to look for, or any words where the models take them.
        mirroring: average over mirrored images where a model says so.
        postprocessing: apply the rules that the models have learned.
        modality: whose rules a model of a collection follows; None to tell from each scan.
        shard: (I, N): the I-th of N parts of the cases, from 1.
    """

    prompts: Path | None = None
    prompts_from: Path | None = None
    prompt_type: Literal["point", "box", "mask"] = "box"
    clicks: int = 0
    text: tuple[str, ...] = ()
    mirroring: bool = True
    postprocessing: bool = True
    save_probabilities: bool = False
    preview: bool = False
    statistics: bool = False
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    modality: str | None = None
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedCase:
    """One case's outcome; `status` is ok, cached or failed."""

    id: str
    status: Literal["ok", "cached", "failed"]
    mask: Path | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictResult:
    """All outcomes; `exit_code` is 0, or 6 when some cases failed. `models` are where the weights came from."""

    models: tuple[str, ...]
    output: Path
    cases: tuple[PredictedCase, ...]
    exit_code: int


def run_predict(
    *,
    workspace: Workspace,
    source: Path,
    output: Path,
    models: Sequence[str] = (),
    options: PredictOptions,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
) -> PredictResult:
    """Predict every scan of `source` into `output`.

    Args:
        workspace: where models are looked for.
        source: a scan or a folder of scans.
        output: receives the masks.
        models: names or paths; the probabilities of several are averaged. Without any the newest finished run.
        options: everything else.
        reporter: receives progress.
        check: called between slices; raises to interrupt.

    Raises:
        ConfigError: options that exclude each other, or a prompt kind the models do not know.
        DataError: nothing to predict, prompts that fit no case, or every case failed.
        CheckpointError: a model cannot be used, or models that cannot be averaged.
    """
    _check_options(options, output)
    arguments = {"input": source, "output": output, "models": list(models), **jsonio.plain(options)}
    with RunRecorder("predict", folder=None, reporter=reporter, arguments=arguments) as record:
        from medmoe_cli.core.engine.device import resolve_compute
        from medmoe_cli.core.workflows.predicting.ensemble import assemble, load_models

        prompts = read_prompts(options.prompts) if options.prompts is not None else None
        list_scans(source)  # nothing to predict is said before a model is looked for
        compute = resolve_compute(options.device, options.precision)
        loaded = load_models(models, workspace=workspace, reporter=record)
        record.inputs |= {str(model.source): model.sha256 for model in loaded}
        ensemble = assemble(loaded, compute=compute, options=options, prompts=prompts, modality=options.modality)
        for line in _what_is_used(ensemble, str(compute.device)):
            record.info(line)
        if ensemble.asked.warning is not None:
            record.warn(ensemble.asked.warning)
        cases = _shard(find_scans(source, num_channels=ensemble.channel_counts), options.shard)
        if prompts is not None:
            cases = _prompted_only(cases, set(prompts.cases), options, record)
        part = f"lock-{options.shard[0]}-of-{options.shard[1]}" if options.shard else "lock"
        with exclusive(output / RECEIPTS, name=part):
            atomic.sweep(output)
            record.folder = output
            job = PredictJob(ensemble, options, output, check)
            job.refuse_foreign_masks(cases)
            result = _predict_all(job, cases, record)
            record.exit_code = result.exit_code
        return result


def _what_is_used(ensemble: Ensemble, device: str) -> list[str]:
    """What a user wants to see before a long prediction: the models, what is averaged, which rules apply."""
    plan = ensemble.plan
    lines = [
        f"model {model.source} ({model.plan.method}, {len(model.plan.labels)} classes) on {device}"
        for model in ensemble.models
    ]
    if len(lines) > 1:
        lines.append(f"the probabilities of {len(lines)} models are averaged")
        if any(model.plan.file_names != plan.file_names for model in ensemble.models):
            numbers = ", ".join(f"{name} {value}" for name, value in plan.file_names.items())
            lines.append(f"the models number the classes differently; the masks have {numbers}")
    axes = sorted({axis for inference in ensemble.inferences for axis in inference.mirroring.axes})
    if axes:
        lines.append(f"averaged over mirrored images: {', '.join(axes)}")
    lines += [f"{rule.label}: only its largest component is kept ({rule.reason})" for rule in ensemble.rules.rules]
    return lines


def _write_names(output: Path, plan: Plan) -> None:
    """`dataset.json` beside the masks, as nnU-Net leaves one: it names the classes to `evaluate` and to readers."""
    channels = {str(index): channel.name for index, channel in enumerate(plan.channels)}
    content: dict[str, Any] = {"channel_names": channels, "labels": {"background": 0, **plan.file_names}}
    if plan.members:  # by what name the members' own references call the classes
        content["member_classes"] = {one.dataset: one.classes for one in plan.members}
    jsonio.write(output / "dataset.json", content)


def _predict_all(job: PredictJob, cases: Sequence[ScanCase], record: RunRecorder) -> PredictResult:
    outcomes: list[PredictedCase] = []
    failures: list[MedMoEError] = []
    record.start("predict", len(cases))
    for case in cases:
        job.check()
        try:
            identity = job.identity(case)
            mask = job.cached(case, identity)
            status: Literal["ok", "cached"] = "ok" if mask is None else "cached"
            mask = mask or job.predict(case, identity)
        except DataError as error:
            failures.append(error)
            outcomes.append(PredictedCase(id=case.id, status="failed", mask=None, error=error.line()))
            record.advance(case.id, status="failed", detail=error.line())
            continue
        outcomes.append(PredictedCase(id=case.id, status=status, mask=mask))
        record.add_output(mask)
        concepts = job.concepts.get(case.id, {})
        if concepts:
            record.add_facts(concepts=concepts)
        told = [absent_words(concepts), job.ensemble.choice.said(case.id)]
        record.advance(case.id, status=status, detail="; ".join(text for text in told if text))
    record.finish()
    if job.options.statistics:
        jsonio.write(job.output / "statistics.json", job.statistics)
    if failures and len(failures) == len(cases):
        raise_all(failures)
    _write_names(job.output, job.plan)
    exit_code = PartialError.exit_code if failures else 0
    return PredictResult(models=job.ensemble.names, output=job.output, cases=tuple(outcomes), exit_code=exit_code)


def _check_options(options: PredictOptions, output: Path) -> None:
    problems: list[MedMoEError] = []
    given = {
        "--prompts": options.prompts is not None,
        "--prompts-from": options.prompts_from is not None,
        "--text": bool(options.text),
    }
    if sum(given.values()) > 1:
        names = " and ".join(name for name, present in given.items() if present)
        problems.append(ConfigError(f"{names} exclude each other", fix="give one of them"))
    if options.prompts_from is None and options.clicks:
        problems.append(ConfigError("--clicks needs --prompts-from", fix="add --prompts-from MASKS"))
    if options.shard is not None and not 1 <= options.shard[0] <= options.shard[1]:
        shard = f"{options.shard[0]}/{options.shard[1]}"
        problems.append(ConfigError(f"no shard {shard}", where="--shard", fix="use 1/N to N/N"))
    if output.exists() and not output.is_dir():
        problems.append(ConfigError("not a folder", where=output, fix="give -o a folder"))
    raise_all(problems)


def _shard(cases: list[ScanCase], shard: tuple[int, int] | None) -> list[ScanCase]:
    if shard is None:
        return cases
    part = cases[shard[0] - 1 :: shard[1]]
    if not part:
        raise DataError(
            f"shard {shard[0]}/{shard[1]} is empty", why=f"there are {len(cases)} cases", fix="use fewer shards"
        )
    return part


def _prompted_only(
    cases: list[ScanCase], prompted: set[str], options: PredictOptions, record: RunRecorder
) -> list[ScanCase]:
    kept = [case for case in cases if case.id in prompted]
    left = [case.id for case in cases if case.id not in prompted]
    if not kept:
        raise DataError(
            "no scan has prompts",
            where=options.prompts,
            why=f"the file names {', '.join(sorted(prompted)[:5]) or 'no case'}, the scans are {', '.join(left[:5])}",
            fix="name the cases in the prompts file like the scans",
        )
    if left:
        record.warn(f"{len(left)} scans have no prompts and are left out: {', '.join(left[:10])}")
    return kept
