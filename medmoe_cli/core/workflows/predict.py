"""Predict: scans in, masks in the scans' own geometry out.

A case counts as done when its mask and its receipt (`.medmoe/CASE.json`: what it was made from, and its sha256) are
both there; the same command run again does only what is missing. Masks that other settings made are never replaced
without being asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError, PartialError, ResourceError, raise_all
from medmoe_cli.core.base.hashing import file_sha256, value_sha256
from medmoe_cli.core.base.lock import exclusive
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.prepare import Prepared, prepare
from medmoe_cli.core.data.prompts_file import read_prompts
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import list_scans
from medmoe_cli.core.imaging.write import label_ending, write_labels, write_volume
from medmoe_cli.core.reporting.overlay import draw_preview
from medmoe_cli.core.workflows.case_output import file_labels, preview_rows
from medmoe_cli.core.workflows.request_choice import choose_requests, require_kinds
from medmoe_cli.core.workflows.requests import FromFile, RequestSource
from medmoe_cli.core.workflows.run_record import RunRecorder
from medmoe_cli.core.workflows.scans import ScanCase, find_scans, read_scan
from medmoe_cli.core.workflows.segmenting import segment
from medmoe_cli.core.workflows.statistics import structure_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmoe_cli.core.workflows.model_folder import LoadedModel

_RECEIPTS = ".medmoe"


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions:
    """What `predict` was asked for.

    Attributes:
        prompts: a prompts file.
        prompts_from: a folder of masks to simulate prompts from, as `prompt_type`, with `clicks`.
        text: class names to look for.
        shard: (I, N): the I-th of N parts of the cases, from 1.
    """

    prompts: Path | None = None
    prompts_from: Path | None = None
    prompt_type: Literal["point", "box", "mask"] = "box"
    clicks: int = 0
    text: tuple[str, ...] = ()
    save_probabilities: bool = False
    preview: bool = False
    statistics: bool = False
    shard: tuple[int, int] | None = None
    overwrite: bool = False
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
    """All outcomes; `exit_code` is 0, or 6 when some cases failed."""

    model: str
    output: Path
    cases: tuple[PredictedCase, ...]
    exit_code: int


def run_predict(
    *,
    workspace: Workspace,
    source: Path,
    output: Path,
    model: str | None,
    options: PredictOptions,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
) -> PredictResult:
    """Predict every scan of `source` into `output`.

    Raises:
        ConfigError: options that exclude each other, or a prompt kind the model does not know.
        DataError: nothing to predict, prompts that fit no case, or every case failed.
        CheckpointError: the model cannot be used.
    """
    _check_options(options, output)
    arguments = {"input": source, "output": output, **jsonio.plain(options)}
    with RunRecorder("predict", folder=None, reporter=reporter, arguments=arguments) as record:
        from medmoe_cli.core.engine.device import resolve_compute
        from medmoe_cli.core.workflows.model_folder import load_model

        prompts = read_prompts(options.prompts) if options.prompts is not None else None
        list_scans(source)  # nothing to predict is said before a model is looked for
        compute = resolve_compute(options.device, options.precision)
        loaded = load_model(model, workspace=workspace, reporter=record)
        record.info(
            f"model {loaded.source} ({loaded.plan.method}, {len(loaded.plan.labels)} classes) on {compute.device}"
        )
        source_of_requests: RequestSource
        if prompts is not None:
            source_of_requests = FromFile(prompts, loaded.plan)
        else:
            source_of_requests = choose_requests(loaded.plan, loaded.segmenter, options)
        require_kinds(loaded.segmenter, source_of_requests)
        cases = _shard(find_scans(source, num_channels=len(loaded.plan.channels)), options.shard)
        if prompts is not None:
            cases = _prompted_only(cases, set(prompts.cases), options, record)
        inference = Inference(
            loaded.segmenter,
            compute=compute,
            batch_size=loaded.predict.batch_size,
            queries_per_batch=loaded.predict.queries_per_batch,
        )
        part = f"lock-{options.shard[0]}-of-{options.shard[1]}" if options.shard else "lock"
        with exclusive(output / _RECEIPTS, name=part):
            atomic.sweep(output)
            record.folder = output
            job = _Job(loaded, inference, source_of_requests, options, output, check)
            job.refuse_foreign_masks(cases)
            result = _predict_all(job, cases, loaded, record)
            record.exit_code = result.exit_code
        return result


def _write_names(output: Path, plan: Plan) -> None:
    """`dataset.json` beside the masks, as nnU-Net leaves one: it names the classes to `evaluate` and to readers."""
    channels = {str(index): channel.name for index, channel in enumerate(plan.channels)}
    jsonio.write(output / "dataset.json", {"channel_names": channels, "labels": {"background": 0, **plan.file_names}})


class _Job:
    """One prediction's settings; predicts cases one by one."""

    def __init__(
        self,
        loaded: LoadedModel,
        inference: Inference,
        source: RequestSource,
        options: PredictOptions,
        output: Path,
        check: Callable[[], None],
    ) -> None:
        self.loaded, self.inference, self.source, self.check = loaded, inference, source, check
        self.plan = loaded.plan
        self.options, self.output = options, output
        self.statistics: dict[str, Any] = {}

    def receipt(self, case: ScanCase) -> Path:
        return self.output / _RECEIPTS / f"{case.id}.json"

    def identity(self, case: ScanCase) -> str:
        """Changes with anything that could change the case's mask or by-products."""
        options = self.options
        return value_sha256(
            {
                "model": self.loaded.sha256,
                "inputs": [_content_sha256(path) for path in case.files],
                "prompts": self.source.identity(case.id),
                "threshold": self.loaded.predict.threshold,
                "precision": self.inference.compute.precision,
                "extras": [options.save_probabilities, options.preview, options.statistics],
            }
        )

    def cached(self, case: ScanCase, identity: str) -> Path | None:
        """The case's mask when it is done with these very settings and undamaged."""
        receipt = self.receipt(case)
        if self.options.overwrite or not receipt.is_file():
            return None
        content = jsonio.read(receipt)
        mask = self.output / str(content.get("mask"))
        if content.get("identity") != identity or not mask.is_file() or content.get("sha256") != file_sha256(mask):
            return None
        if self.options.statistics:
            self.statistics[case.id] = content.get("statistics")
        return mask

    def refuse_foreign_masks(self, cases: Sequence[ScanCase]) -> None:
        """Refuse to replace masks that these settings did not make, all together.

        Raises:
            ConfigError: there are some and --overwrite was not given.
        """
        if self.options.overwrite:
            return
        problems: list[MedMoEError] = []
        for case in cases:
            present = [
                path
                for path in self.output.glob(f"{case.id}.*")
                if path.name.startswith(f"{case.id}.") and path.suffix != ".json"
            ]
            if present and self.cached(case, self.identity(case)) is None:
                problems.append(
                    ConfigError(
                        f"case '{case.id}' has a mask already",
                        where=present[0],
                        why="another model, other prompts or another program made it",
                        fix="choose another -o, or add --overwrite",
                    )
                )
        raise_all(problems)

    def predict(self, case: ScanCase, identity: str) -> Path:
        """Predict one case and write everything about it; the receipt last."""
        image = read_scan(case, num_channels=len(self.plan.channels))
        prepared = prepare(image, self.plan)
        requests = self.source.requests(case.id, prepared)
        with _probabilities(self.output, self.plan, prepared, wanted=self.options.save_probabilities) as store:
            segmented = segment(
                prepared,
                requests,
                self.inference,
                threshold=self.loaded.predict.threshold,
                probabilities=store,
                check=self.check,
            )
            labels = file_labels(prepared, segmented)
            mask = self.output / f"{case.id}{label_ending(image)}"
            write_labels(mask, labels, image, label_names=self.plan.file_names)
            if store is not None:
                self._write_probabilities(case, image, prepared, store)
        extra: dict[str, Any] = {}
        if self.options.statistics:
            extra["statistics"] = structure_statistics(labels, image.data[0], image.geometry, self.plan.file_names)
            self.statistics[case.id] = extra["statistics"]
        if self.options.preview:
            names = {value: name for name, value in self.plan.labels.items()}
            rows = preview_rows(prepared, segmented)
            draw_preview(self.output / "previews" / f"{case.id}.png", rows, names=names, title=case.id)
        jsonio.write(
            self.receipt(case),
            {
                "identity": identity,
                "mask": mask.name,
                "sha256": file_sha256(mask),
                "requests": segmented.num_requests,
                "tokens": segmented.tokens,
                **extra,
            },
        )
        return mask

    def _write_probabilities(
        self, case: ScanCase, image: Image, prepared: Prepared, store: NDArray[np.float16]
    ) -> None:
        ending = ".nii.gz" if image.header.format not in {"nrrd", "mha", "tiff"} else label_ending(image)
        for name, value in self.plan.labels.items():
            grid = prepared.to_file_grid(store[value - 1])
            path = self.output / "probabilities" / f"{case.id}_{name}{ending}"
            write_volume(path, np.ascontiguousarray(grid, dtype=np.float32), image)


def _predict_all(job: _Job, cases: Sequence[ScanCase], loaded: LoadedModel, record: RunRecorder) -> PredictResult:
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
        record.advance(case.id, status=status)
    record.finish()
    if job.options.statistics:
        jsonio.write(job.output / "statistics.json", job.statistics)
    if failures and len(failures) == len(cases):
        raise_all(failures)
    _write_names(job.output, loaded.plan)
    exit_code = PartialError.exit_code if failures else 0
    return PredictResult(model=str(loaded.source), output=job.output, cases=tuple(outcomes), exit_code=exit_code)


@contextmanager
def _probabilities(
    output: Path, plan: Plan, prepared: Prepared, *, wanted: bool
) -> Iterator[NDArray[np.float16] | None]:
    """A disk-backed (classes, slices, rows, cols) array of zeros, gone at the end."""
    if not wanted:
        yield None
        return
    path = atomic.temporary_sibling(output / "probabilities.raw")
    shape = (len(plan.labels), prepared.num_slices, prepared.fit.rows, prepared.fit.cols)
    try:
        yield np.memmap(path, dtype=np.float16, mode="w+", shape=shape)
    except OSError as error:
        raise ResourceError(
            "no room for probabilities", where=output, why=str(error), fix="free disk, or leave --save-probabilities"
        ) from error
    finally:
        path.unlink(missing_ok=True)


def _content_sha256(path: Path) -> str:
    if path.is_dir():
        return value_sha256([file_sha256(file) for file in sorted(path.iterdir()) if file.is_file()])
    return file_sha256(path)


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
