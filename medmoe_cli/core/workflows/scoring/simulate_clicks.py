"""evaluate --simulate-clicks: how good masks become with every click of somebody who knows the answer.

The first click lies in the middle of a structure, each further one in the middle of the largest error; a scan is
encoded once for all of them. A 2D model is clicked on every slice that shows the structure. Dice is that of each
structure's own mask, before overlaps are settled, over the whole scan at its own resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.imaging.read import list_scans
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.predict import PredictOptions
from medmoe_cli.core.workflows.predicting.requests import FromMasks
from medmoe_cli.core.workflows.predicting.scans import ScanCase, find_scans, read_scan
from medmoe_cli.core.workflows.scoring.click_scores import (
    CaseClicks,
    ClickSummary,
    click_curves,
    draw_clicks,
)
from medmoe_cli.core.workflows.scoring.evaluation_inputs import problems_of
from medmoe_cli.core.workflows.scoring.evaluation_labels import find_label_names

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.predicting.ensemble import Ensemble
    from medmoe_cli.core.workflows.predicting.segmenting import Answered

FILE_NAME = "clicks.json"


def run_simulate_clicks(
    *,
    workspace: Workspace,
    source: Path,
    references: Path,
    clicks: int,
    models: Sequence[str] = (),
    output: Path | None = None,
    dataset: Path | None = None,
    ignore_missing: bool = False,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
) -> ClickSummary:
    """Click on every labelled structure, again and again, and score the mask after each click.

    Args:
        workspace: where models are looked for.
        source: a scan or a folder of scans.
        references: folder of label maps called like the scans.
        clicks: how many each structure gets.
        models: as `predict` takes them; several are averaged. Without any the newest finished run.
        output: clicks.json, or the folder to write it into; a PNG of the same name goes beside it. None writes nothing.
        dataset: folder whose dataset.json names the patients; else one in or beside the references.
        ignore_missing: score the scans that have a reference, and warn of the others.
        device: auto, cpu, cuda or cuda:1.
        precision: auto, 32, bf16 or 16.
        seed: of the confidence intervals.
        reporter: receives progress.
        check: called between slices; raises to interrupt.

    Raises:
        ConfigError: the model does not answer clicks, or no click is asked for.
        DataError: nothing to score, missing references, unreadable files; all of them together.
        GeometryError: a reference lies on another grid than its scan.
        CheckpointError: a model cannot be used.
        ResourceError: the result cannot be written.
    """
    if clicks < 1:
        raise ConfigError("no click to simulate", where="--simulate-clicks", fix="give a number from 1")
    target = output if output is None or _is_json(output) else output / FILE_NAME
    arguments = {
        "input": source,
        "references": references,
        "models": list(models),
        "simulate_clicks": clicks,
        "output": target,
        "dataset": dataset,
        "ignore_missing": ignore_missing,
        "device": device,
        "precision": precision,
    }
    folder = None if target is None else target.parent
    with RunRecorder("evaluate", folder=folder, reporter=reporter, arguments=arguments, seed=seed) as run:
        from medmoe_cli.core.engine.device import resolve_compute
        from medmoe_cli.core.workflows.predicting.ensemble import assemble, load_models

        list_scans(source)  # nothing to score is said before a model is looked for
        options = PredictOptions(prompts_from=references, prompt_type="point", clicks=clicks)
        compute = resolve_compute(device, precision)
        ensemble = assemble(
            load_models(models, workspace=workspace, reporter=run), compute=compute, options=options, prompts=None
        )
        plan = ensemble.plan
        masks = ensemble.sources[0]
        assert isinstance(masks, FromMasks)
        run.inputs |= {str(model.source): model.sha256 for model in ensemble.models}
        cases = _with_reference(
            find_scans(source, num_channels=ensemble.channel_counts), masks, ignore_missing=ignore_missing, run=run
        )
        done = _click_all(ensemble, cases, masks, clicks=clicks, run=run, check=check)
        patients = find_label_names(dataset, [references, references.parent]).patients
        classes, overall = click_curves(done, plan, clicks=clicks, patients=patients, seed=seed)
        if not classes:
            why = f"no reference has any of the classes {', '.join(plan.class_names)}"
            raise DataError("nothing to score", where=references, why=why, fix="check the labels of the references")
        summary = ClickSummary(
            models=ensemble.names,
            method=plan.method,
            dims=plan.dims,
            num_clicks=clicks,
            classes=classes,
            overall=overall,
            cases=tuple(done),
            seed=seed,
            picture=None if target is None else target.with_suffix(".png"),
        )
        if target is not None and summary.picture is not None:
            for case in cases:
                run.add_input(masks.file(case.id))
            run.add_output(jsonio.write(target, summary.to_json()))
            run.add_output(draw_clicks(summary, summary.picture))
        return summary


def _is_json(path: Path) -> bool:
    return path.suffix == ".json" and not path.is_dir()


def _with_reference(
    cases: Sequence[ScanCase], masks: FromMasks, *, ignore_missing: bool, run: RunRecorder
) -> list[ScanCase]:
    kept: list[ScanCase] = []
    problems: list[MedMoEError] = []
    for case in cases:
        try:
            masks.file(case.id)
        except DataError as error:
            problems.append(error)
        else:
            kept.append(case)
    if not kept or not ignore_missing:
        raise_all(problems)
    if problems:
        run.warn(f"{len(problems)} of {len(cases)} scans are not scored: they have no reference")
    return kept


def _click_all(
    ensemble: Ensemble,
    cases: Sequence[ScanCase],
    masks: FromMasks,
    *,
    clicks: int,
    run: RunRecorder,
    check: Callable[[], None],
) -> list[CaseClicks]:
    done: list[CaseClicks] = []
    problems: list[MedMoEError] = []
    run.start("click", len(cases))
    for case in cases:
        check()
        try:
            done.append(_click(ensemble, case, masks, clicks=clicks, check=check))
        except DataError as error:
            problems.extend(problems_of(error))
            run.advance(case.id, status="failed", detail=error.line())
        else:
            run.advance(case.id)
    run.finish()
    raise_all(problems)
    return done


def _click(
    ensemble: Ensemble, case: ScanCase, masks: FromMasks, *, clicks: int, check: Callable[[], None]
) -> CaseClicks:
    from medmoe_cli.core.workflows.predicting.segmenting import segment_together

    plan = ensemble.plan
    image = read_scan(case, num_channels=ensemble.read_channels)
    members = ensemble.members(case.id, image)
    reference = masks.slices(case.id, members[0].prepared)
    counts = _Counts(reference, clicks=clicks, threshold=ensemble.threshold)
    segment_together(members, threshold=ensemble.threshold, each_round=counts.add, check=check)
    present = [(name, value) for name, value in plan.labels.items() if counts.is_present(value)]
    return CaseClicks(
        case_id=case.id,
        dice={name: counts.dice(value) for name, value in present},
        num_clicked={name: counts.num_clicked(value) for name, value in present},
    )


class _Counts:
    """Voxels of the masks after each click, and those that are right, by class.

    A structure that is too small for the network's grid is never clicked, and counts as missed where it is.
    """

    def __init__(self, reference_SHW: NDArray[np.integer], *, clicks: int, threshold: float) -> None:
        self._reference, self._clicks, self._threshold = reference_SHW, clicks, threshold
        values, counts = np.unique(reference_SHW, return_counts=True)
        self._wanted = dict(zip(values.tolist(), counts.tolist(), strict=True))
        self._found: dict[int, NDArray[np.int64]] = {}  # (right, claimed) by click
        self._clicked: dict[int, int] = {}

    def add(self, answered: Answered) -> None:
        """Count an answer after one more click, on one slice or a part of a volume."""
        request = answered.request
        # At the precision in which prediction decides.
        mask = answered.probability.astype(np.float16) > self._threshold
        truth = self._reference[answered.place] == request.value
        found = self._found.setdefault(request.value, np.zeros((2, self._clicks), np.int64))
        found[:, answered.round] += (int((mask & truth).sum()), int(mask.sum()))
        self._clicked[request.value] = self._clicked.get(request.value, 0) + (
            answered.round == 0 and answered.part == 0
        )

    def is_present(self, value: int) -> bool:
        """True when the reference has the class."""
        return value in self._wanted

    def num_clicked(self, value: int) -> int:
        """On how many slices it was clicked."""
        return self._clicked.get(value, 0)

    def dice(self, value: int) -> tuple[float, ...]:
        """After each click."""
        right, claimed = self._found.get(value, np.zeros((2, self._clicks), np.int64))
        return tuple((2 * right / (claimed + self._wanted[value])).tolist())
