"""train: from a dataset to a validated model. What is missing before it (check, plan, preprocess) is done first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError, DataError
from medmoe_cli.core.base.lock import exclusive
from medmoe_cli.core.base.progress import Reporter, Silent
from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import resolved_yaml
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.data.splits import Split, split
from medmoe_cli.core.engine import optim
from medmoe_cli.core.engine.checkpoint import Checkpoints
from medmoe_cli.core.engine.device import Compute, resolve_compute
from medmoe_cli.core.engine.distributed import start_fabric
from medmoe_cli.core.engine.job import Job, Trained
from medmoe_cli.core.engine.measure import MadeUp, measure_step
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.engine.trainer import Trainer
from medmoe_cli.core.models.registry import method as find_method
from medmoe_cli.core.nn.segmenter import Segmenter
from medmoe_cli.core.nn.weights import load_into, load_tensors
from medmoe_cli.core.reporting.curves import draw_progress
from medmoe_cli.core.workflows.check import ensure_checked
from medmoe_cli.core.workflows.configure import choose_preset
from medmoe_cli.core.workflows.model_files.model_folder import best_checkpoint
from medmoe_cli.core.workflows.model_files.run_folder import (
    CHECKPOINTS,
    CONFIG_NAME,
    DATASET_NAME,
    PLAN_NAME,
    RunFolder,
    fold_folder,
    next_run_name,
)
from medmoe_cli.core.workflows.model_files.run_identity import run_identity
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.model_files.starting_weights import starting_tensors
from medmoe_cli.core.workflows.named_dataset import named_dataset
from medmoe_cli.core.workflows.plan import Planned
from medmoe_cli.core.workflows.predicting.answering import ready
from medmoe_cli.core.workflows.preprocess import Ready, ensure_preprocessed, finished
from medmoe_cli.core.workflows.samples.fold import FoldSamples, fold_samples
from medmoe_cli.core.workflows.scoring.validate import Validation, run_validate
from medmoe_cli.core.workflows.train_options import StageParameters, TrainOptions, TrainResult
from medmoe_cli.core.workflows.train_setup import Setup, begins, plan_training, set_up, workers_of

__all__ = ["StageParameters", "TrainOptions", "TrainResult", "run_train"]

_REDRAW_S = 30.0  # progress.png at most so often


def run_train(*, workspace: Workspace, options: TrainOptions, reporter: Reporter) -> TrainResult:
    """Train a method on a dataset's fold and validate it.

    Raises:
        ConfigError: options, preset or keys; a run that exists; nothing to resume; a training that diverged.
        DataError: the dataset cannot be used, or an image is not finite.
        CheckpointError: the backbone or checkpoint cannot be used, or a resume with other settings or data.
        ResourceError: disk, memory, a dead worker, a device that is not there.
        InterruptedRun: a signal; the state is saved.
    """
    with RunRecorder("train", folder=None, reporter=reporter, arguments=jsonio.plain(options)) as run:
        if not options.resume:
            choose_preset(workspace, options.method, options.preset)  # a typo is said before the data are looked at
        dataset = named_dataset(workspace, options.data)
        setup = set_up(workspace, dataset, options)
        run.seed = setup.resolved.train.seed
        compute = resolve_compute(options.device, setup.resolved.train.precision)
        fabric = start_fabric(compute, num_devices=options.devices)
        inner: Reporter = run if fabric.is_global_zero else Silent()
        with fabric.rank_zero_first():
            if not options.dry_run:
                workers = workers_of(setup.resolved)
                ensure_checked(workspace=workspace, data=options.data, workers=workers, reporter=inner)
            planned = plan_training(setup, workspace=workspace, dataset=dataset, options=options, reporter=inner)
        named = options.stage if setup.begun is None else None
        if named is not None and not begins(named, planned.plan, setup.resolved):  # it goes on with a run
            options = replace(options, resume=True)
            setup = set_up(workspace, dataset, options)
            run.seed = setup.resolved.train.seed
            with fabric.rank_zero_first():
                planned = plan_training(setup, workspace=workspace, dataset=dataset, options=options, reporter=inner)
        training = _Training(workspace, options, setup, planned, compute, fabric, inner)
        if options.dry_run:
            return training.dry_run()
        return training.run(run)


class _Training:
    """One training with everything resolved."""

    def __init__(
        self,
        workspace: Workspace,
        options: TrainOptions,
        setup: Setup,
        planned: Planned,
        compute: Compute,
        fabric: Fabric,
        reporter: Reporter,
    ) -> None:
        self.workspace, self.options, self.setup, self.resolved = workspace, options, setup, setup.resolved
        self.planned, self.plan, self.dataset = planned, planned.plan, planned.dataset
        self.compute, self.fabric, self.reporter = compute, fabric, reporter

    def run(self, record: RunRecorder) -> TrainResult:
        """Train, then validate the best checkpoint."""
        with self.fabric.rank_zero_first():
            ready = ensure_preprocessed(self.planned, workers=workers_of(self.resolved), reporter=self.reporter)
        segmenter = self._build()
        samples = self._samples(segmenter, ready)
        parameters = _parameter_report(segmenter)
        folder = self.setup.begun or self._new_folder()
        with ExitStack() as stack:
            if self.fabric.is_global_zero:
                stack.enter_context(exclusive(folder.path))
                atomic.sweep(folder.path)
            checkpoint = self._open(folder, resume=self.setup.begun is not None)
            self.fabric.barrier()
            stop = stack.enter_context(StopFlag())
            job = self._job(segmenter, samples, folder)
            trainer = Trainer(job, fabric=self.fabric, compute=self.compute, reporter=self.reporter, stop=stop)
            if checkpoint is not None:
                trainer.restore(checkpoint)
            # Only now: a resume that is refused leaves the run's own record alone.
            record.folder = folder.path if self.fabric.is_global_zero else None
            trained = trainer.run()
            validation = None
            if self.fabric.is_global_zero:
                self._draw(folder)
                validation = self._validate(segmenter, samples, folder, trained, stop)
                record.add_output(trained.checkpoint)
            self.fabric.barrier()
        return TrainResult(
            run=folder.name,
            folder=folder.path,
            preset=self.resolved.preset,
            preset_why=self.setup.chosen.why,
            plan=self.plan,
            parameters=parameters,
            num_train=len(samples.train),
            num_validation=len(samples.validation),
            trained=trained,
            validation=validation,
            step_cost=None,
            total_steps=trained.steps,
            is_main=self.fabric.is_global_zero,
        )

    def dry_run(self) -> TrainResult:
        """Resolve everything and measure one step; nothing is written."""
        ready = finished(self.planned)
        split(self.dataset, self.options.fold)  # a fold that does not exist is said now
        segmenter = self._build()
        samples = None
        if ready is not None:
            samples = self._samples(segmenter, ready, write=False)
        parameters = _parameter_report(segmenter)
        made_up = MadeUp(
            num_samples=self.plan.batch_size,
            num_channels=self.plan.input_channels,
            shape=(self.plan.input_size,) * self.plan.dims,
            values=_values(self.plan),
        )
        everything = samples or FoldSamples(train=made_up, validation=made_up, split=Split((), ()), content="")
        job = self._job(segmenter, replace(everything, train=made_up), None)
        cost = measure_step(job, fabric=self.fabric)
        train = self.resolved.train
        total = train.steps
        if total is None and samples is not None:
            total = train.epochs * -(-len(samples.train) // (self.plan.batch_size * self.fabric.world_size))
        return TrainResult(
            run="",
            folder=None,
            preset=self.resolved.preset,
            preset_why=self.setup.chosen.why,
            plan=self.plan,
            parameters=parameters,
            num_train=None if samples is None else len(samples.train),
            num_validation=None if samples is None else len(samples.validation),
            trained=None,
            validation=None,
            step_cost=cost,
            total_steps=total,
            is_main=self.fabric.is_global_zero,
        )

    def _samples(self, segmenter: Segmenter, ready: Ready, *, write: bool = True) -> FoldSamples:
        cases = split(self.dataset, self.options.fold, folder=self.planned.folder if write else None)
        samples = fold_samples(
            dataset=self.dataset,
            plan=self.plan,
            resolved=self.resolved,
            ready=ready,
            cases=cases,
            stage=segmenter.stages()[0],
        )
        self.reporter.info(samples.line)
        return samples

    def _build(self) -> Segmenter:
        """The network; its random weights come from the run's seed."""
        found = find_method(self.plan.method)
        name = found.backbone_name(self.resolved.model)
        backbone = None
        if name is not None:
            backbone = starting_tensors(name, workspace=self.workspace, plan=self.plan, reporter=self.reporter)
        torch.manual_seed(derive_seed(self.resolved.train.seed, "init"))
        segmenter = found.build(self.resolved.model, self.plan, backbone=backbone)
        if segmenter.backbone_report is not None:
            self.reporter.info(f"backbone {name}: {segmenter.backbone_report.line()}")
        return segmenter

    def _new_folder(self) -> RunFolder:
        """The folder of a run that does not exist yet; the same on all processes."""
        name = self.options.name or next_run_name(self.workspace, dataset=self.dataset.name, method=self.plan.method)
        name = str(self.fabric.broadcast(name))
        folder = fold_folder(
            self.workspace, dataset=self.dataset.name, method=self.plan.method, run=name, fold=self.options.fold
        )
        if self.fabric.broadcast(folder.exists):
            raise ConfigError(
                f"run '{name}' exists",
                where=folder.path,
                why=f"fold {folder.fold} has begun",
                fix=f"{self._command(folder)} --resume, or choose another --name",
            )
        return folder

    def _open(self, folder: RunFolder, *, resume: bool) -> Path | None:
        """Lay out a new run's folder, or find the checkpoint to go on from."""
        if resume:
            latest = Checkpoints(folder.path / CHECKPOINTS, keep=2).latest(self.reporter)
            if latest is None:
                raise CheckpointError("no checkpoint", where=folder.path, fix="train without --resume")
            return latest
        if self.fabric.is_global_zero:
            jsonio.write(folder.path / PLAN_NAME, self.plan)
            atomic.write_bytes(folder.path / DATASET_NAME, (self.dataset.root / DATASET_NAME).read_bytes())
            header = {"dataset": self.dataset.name, "fold": folder.fold, "run": folder.run}
            atomic.write_text(folder.path / CONFIG_NAME, resolved_yaml(self.resolved, header=header))
        return None

    def _job(self, segmenter: Segmenter, samples: FoldSamples, folder: RunFolder | None) -> Job:
        path = folder.path if folder is not None else Path()
        return Job(
            segmenter=segmenter,
            train=samples.train,
            validation=samples.validation,
            config=self.resolved.train,
            batch_size=self.plan.batch_size,
            values=_values(self.plan),
            class_names=self.plan.class_names,
            folder=path,
            identity=run_identity(
                self.resolved,
                self.plan,
                precision=self.compute.precision,
                num_devices=self.fabric.world_size,
                inputs=samples.content,
                cases=samples.split,
            ),
            preprocessing_key=_content_key(self.plan, samples.content),
            features=self.planned.folder / "features" if folder is not None else None,
            resume_command=f"{self._command(folder)} --resume" if folder is not None else "",
            stage=self.options.stage,
            draw_weights=samples.draw_weights,
            after_epoch=_Redraw(self, folder) if folder is not None else _nothing,
        )

    def _command(self, folder: RunFolder) -> str:
        return (
            f"medmoe train --method {folder.method} --data {self.options.data} --fold {folder.fold} --name {folder.run}"
        )

    def _draw(self, folder: RunFolder) -> None:
        names = {value: name for name, value in self.plan.labels.items()}
        draw_progress(folder.path / "log.jsonl", folder.path / "progress.png", title=folder.name, class_names=names)

    def _validate(
        self, segmenter: Segmenter, samples: FoldSamples, folder: RunFolder, trained: Trained, stop: StopFlag
    ) -> Validation:
        """Predict and score the fold's validation cases with the best checkpoint, at native resolution."""
        best = best_checkpoint(folder.path, self.reporter)
        load_into(segmenter, load_tensors(best / "model.safetensors"), where=best)
        predict = self.resolved.predict
        inference = ready(segmenter, plan=self.plan, predict=predict, compute=self.compute)

        def check() -> None:
            if stop.wanted:
                stop.raise_interrupted(
                    saved="the training is finished, its validation is not", fix=f"{self._command(folder)} --resume"
                )

        return run_validate(
            cases=_cases(self.dataset, samples.split.validation),
            training=_cases(self.dataset, samples.split.train),
            dataset=self.dataset,
            plan=self.plan,
            inference=inference,
            predict=predict,
            folder=folder.path / "validation",
            reporter=self.reporter,
            check=check,
        )


class _Redraw:
    """Draws progress.png after an epoch, unless that was a moment ago."""

    def __init__(self, training: _Training, folder: RunFolder) -> None:
        self._training, self._folder, self._last = training, folder, 0.0

    def __call__(self) -> None:
        if time.monotonic() - self._last > _REDRAW_S or self._last == 0:
            self._training._draw(self._folder)
            self._last = time.monotonic()


def _content_key(plan: Plan, content: str) -> str:
    """What the network is shown depends on: cached features of slices with neighbours are not those without."""
    context = f" context {plan.context_slices}" if plan.context_slices else ""
    shown = f" shown {[one.plan.shown for one in plan.members]}" if plan.members else ""
    return f"{plan.preprocessing_key} {content}{context}{shown}"


def _nothing() -> None:
    """Nothing to redraw."""


def _parameter_report(segmenter: Segmenter) -> tuple[StageParameters, ...]:
    report = []
    for stage in segmenter.stages():
        optim.apply_stage(segmenter, stage)
        report.append(StageParameters(stage=stage.name, groups=segmenter.parameter_groups()))
    return tuple(report)


def _values(plan: Plan) -> tuple[int, ...]:
    return tuple(plan.labels[name] for name in plan.class_names)


def _cases(dataset: Dataset, ids: Sequence[str]) -> tuple[Case, ...]:
    by_id = {case.id: case for case in dataset.training}
    missing = [case for case in ids if case not in by_id]
    if missing:
        raise DataError("validation cases are gone", where=dataset.root, why=", ".join(missing[:5]))
    return tuple(by_id[case] for case in ids)
