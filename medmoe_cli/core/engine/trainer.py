"""The training loop: runs a segmenter's stages over samples, method-agnostic, resumable to the bit on a CPU.

What makes a resume exact: the order of samples and every draw are functions of (seed, epoch, sample); torch is seeded
from (seed, step) before each step; learning rates are functions of the step; running means are part of the state.
So a checkpoint holds weights, optimizer tensors and a few numbers, and no random state.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import CheckpointError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.engine import guard, optim
from medmoe_cli.core.engine.batch import Batch
from medmoe_cli.core.engine.checkpoint import Checkpoints, Snapshot, read_snapshot
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.feature_cache import FeatureCache
from medmoe_cli.core.engine.job import Job, Span, Trained, check_identity, spans, spans_to_run
from medmoe_cli.core.engine.loader import Loader
from medmoe_cli.core.engine.log import RunLog
from medmoe_cli.core.engine.order import Order
from medmoe_cli.core.engine.record import LOG_EVERY, Record
from medmoe_cli.core.engine.samples import ready_cache, training_samples, validation_samples
from medmoe_cli.core.engine.schedules import depends_on_length, rate_factor
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.engine.state import TrainState
from medmoe_cli.core.engine.step import Carrier, StepModule
from medmoe_cli.core.engine.validate import Validation, validate


@dataclass(kw_only=True, slots=True)
class _Running:
    """What a stage trains with."""

    span: Span
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    module: nn.Module
    wrapped_optimizer: torch.optim.Optimizer
    average: optim.Average | None
    cache: FeatureCache | None


class Trainer:
    """Trains one job.

    Args:
        job: what to train.
        fabric: launched; device, precision and other processes.
        compute: the same device and precision, for validation and encoding.
        reporter: receives progress; pass a silent one on other ranks.
        stop: entered; looked at between steps.
    """

    def __init__(self, job: Job, *, fabric: Fabric, compute: Compute, reporter: Reporter, stop: StopFlag) -> None:
        self.job, self.fabric, self.reporter, self.stop = job, fabric, reporter, stop
        self.compute = Compute(device=fabric.device, precision=compute.precision)
        self.config = job.config
        if not len(job.train):
            raise DataError(
                "nothing to train on", where=job.folder, why="no sample has a label", fix="medmoe check DATA"
            )
        self.order = Order(
            num_samples=len(job.train),
            batch_size=job.batch_size,
            seed=job.config.seed,
            num_replicas=fabric.world_size,
            rank=fabric.global_rank,
            weights=job.draw_weights,
        )
        self.total_steps = job.config.steps or job.config.epochs * self.order.steps_per_epoch
        self.total_epochs = math.ceil(self.total_steps / self.order.steps_per_epoch)
        self.checkpoints = Checkpoints(job.folder / "checkpoints", keep=job.config.keep_checkpoints)
        self.record = Record(RunLog(job.folder / "log.jsonl"), writes=fabric.is_global_zero)
        self.state = TrainState()
        self.validation: Validation | None = None
        self._restored: Snapshot | None = None
        self._began = self._last_save = time.monotonic()
        self._seconds_before = 0.0

    # The whole ------------------------------------------------------------------------------------------------------

    def run(self) -> Trained:
        """Train to the end.

        Raises:
            InterruptedRun: a signal came; the state is saved.
            DataError, ConfigError: a value was not finite; nothing was updated.
            ResourceError: a worker died, or the disk is full.
        """
        if self.fabric.is_global_zero and self.checkpoints.folder.is_dir():
            atomic.sweep(self.checkpoints.folder)
        self.job.segmenter.to(self.compute.device)
        self._began = self._last_save = time.monotonic()
        try:
            self._run_stages()
        finally:
            self.reporter.finish()
        steps = self.checkpoints.steps()
        best = self.state.best_step if self.state.best_step in steps else self.state.step
        return Trained(
            steps=self.state.step,
            epochs=self.state.epochs_closed,
            seconds=self.state.seconds,
            checkpoint=self.checkpoints.path(best),
            last=self.checkpoints.path(self.state.step),
            best_dice=self.state.best_dice,
            validation=self.validation,
            next_stage=self._next_stage(),
        )

    def _next_stage(self) -> str | None:
        found = spans(self.job.segmenter.stages(), self.total_steps)
        return next((span.stage.name for span in found if span.end > self.state.step), None)

    def _run_stages(self) -> None:
        found = spans(self.job.segmenter.stages(), self.total_steps)
        for span in spans_to_run(found, self.job.stage, done=self.state.step, resume_command=self.job.resume_command):
            if self.state.step > span.end or (self.state.step == span.end and not self._epoch_is_open()):
                continue
            running = self._begin(span)
            self._run_span(running)
            if self.job.stage == span.stage.name and self.state.step not in self.checkpoints.steps():
                self._save(running)
            if running.average is not None and span.end < self.total_steps:
                running.average.swap()  # the next stage begins from this one's average

    def _run_span(self, running: _Running) -> None:
        if self._epoch_is_open():
            self._close_epoch(running)
        draws = self.order.batches(self.state.step, running.span.end)
        samples = training_samples(self.job, running.span.stage, running.cache)
        loader = Loader(samples, draws, workers=self.config.workers)
        self.record.restart(self.state.step)
        with loader.dead_workers_explained():
            for batch in loader:
                self._step(running, batch)
                self._after_step(running, loader)

    def _after_step(self, running: _Running, loader: Loader) -> None:
        if self.state.step % LOG_EVERY == 0 or self.state.step == self.total_steps:
            self._log_steps(running, loader)
        if self._epoch_is_open():
            self._close_epoch(running)
        elif time.monotonic() - self._last_save > 60 * self.config.checkpoint_minutes:
            self._save(running)
        if self._should_stop():
            self._interrupt(running)

    # One step -------------------------------------------------------------------------------------------------------

    def _step(self, running: _Running, batch: Batch) -> None:
        step = self.state.step
        guard.check_inputs(batch.not_finite, step=step)
        torch.manual_seed(derive_seed(self.config.seed, "step", step, self.fabric.global_rank))
        rate = self._rate(running.span, step)
        for group in running.optimizer.param_groups:
            group["lr"] = rate
        losses = running.module(Carrier(batch))
        self.fabric.backward(losses.total)
        norm = self.fabric.clip_gradients(
            running.module,
            running.wrapped_optimizer,
            max_norm=self.config.gradient_clip or math.inf,
            error_if_nonfinite=False,
        )
        values = _numbers({"loss": losses.total, "grad_norm": torch.as_tensor(norm), **losses.parts})
        gradient_norm = values.pop("grad_norm")
        guard.check_losses(values, step=step, keys=batch.keys, module=self.job.segmenter)
        if self._scaler() is None:
            guard.check_gradient(gradient_norm, step=step, keys=batch.keys, module=self.job.segmenter)
        elif math.isfinite(gradient_norm):
            self.state.skipped_updates = 0
        else:
            self.state.skipped_updates += 1
            guard.check_skipped(self.state.skipped_updates, step=step, keys=batch.keys)
        running.wrapped_optimizer.step()
        running.wrapped_optimizer.zero_grad()
        if running.average is not None:
            running.average.update(step - running.span.start)
        if math.isfinite(gradient_norm):
            values["grad_norm"] = gradient_norm
        loads = {place: load.tolist() for place, load in losses.loads.items()}
        self.state.window.add(values, loads)
        self.state.epoch.add(values, loads)
        self.state.step += 1
        self.reporter.update(
            f"epoch {self.state.epochs_closed + 1}/{self.total_epochs} step {self.state.step}/{self.total_steps} "
            f"loss {self.state.epoch.means()['loss']:.4f} lr {rate:.2e}"
        )

    def _rate(self, span: Span, step: int) -> float:
        base = span.stage.learning_rate or self.config.learning_rate
        return base * rate_factor(
            self.config,
            step=step - span.start,
            total_steps=span.end - span.start,
            steps_per_epoch=self.order.steps_per_epoch,
        )

    # Epochs ---------------------------------------------------------------------------------------------------------

    def _epoch_is_open(self) -> bool:
        """True when the last step ended an epoch whose validation and log line are still to come."""
        step = self.state.step
        ended = step > 0 and (step % self.order.steps_per_epoch == 0 or step == self.total_steps)
        return ended and self.state.epochs_closed < math.ceil(step / self.order.steps_per_epoch)

    def _close_epoch(self, running: _Running) -> None:
        number = math.ceil(self.state.step / self.order.steps_per_epoch)
        last = self.state.step == self.total_steps
        due = self.job.validation is not None and (number % self.config.validation_every == 0 or last)
        validation = self._validate(running) if due else None
        if due and validation is None:
            self._interrupt(running)
        improved = validation is not None and (self.state.best_dice is None or validation.score > self.state.best_dice)
        if validation is not None:
            self.validation = validation
        if improved and validation is not None:
            self.state.best_dice, self.state.best_step = validation.score, self.state.step
        self.state.seconds = self._seconds()
        self.record.epoch(
            self.state,
            epoch=number,
            stage=running.span.stage.name,
            lr=self._rate(running.span, self.state.step - 1),
            validation=validation,
            best=improved,
        )
        self.state.epoch.clear()
        self.state.epochs_closed = number
        self.state.finished = last
        if validation is not None or last:
            self._save(running)
        text = "" if validation is None else " ".join(f"{kind} {dice:.3f}" for kind, dice in validation.dice.items())
        self.reporter.advance(f"epoch {number}/{self.total_epochs}", detail=text and f"Dice {text}")
        if self.fabric.is_global_zero:
            self.job.after_epoch()

    def _log_steps(self, running: _Running, loader: Loader) -> None:
        self.record.steps(
            self.state,
            epoch=(self.state.step - 1) // self.order.steps_per_epoch + 1,
            stage=running.span.stage.name,
            lr=self._rate(running.span, self.state.step - 1),
            loader=loader,
        )
        self.state.window.clear()

    def _validate(self, running: _Running) -> Validation | None:
        """Measure (with the averaged weights when averaging); every process measures all, so that all decide alike."""
        assert self.job.validation is not None
        if running.average is not None:
            running.average.swap()
        try:
            return validate(
                self.job.segmenter,
                running.span.stage,
                validation_samples(self.job, running.span.stage, running.cache),
                compute=self.compute,
                batch_size=self.job.batch_size,
                workers=self.config.workers,
                limit=self.config.validation_limit,
                stop=self.stop,
            )
        finally:
            if running.average is not None:
                running.average.swap()
            optim.set_modes(self.job.segmenter)

    # Stages ---------------------------------------------------------------------------------------------------------

    def _begin(self, span: Span) -> _Running:
        segmenter = self.job.segmenter
        parameters = optim.apply_stage(segmenter, span.stage)
        cache = ready_cache(
            self.job, span.stage, fabric=self.fabric, compute=self.compute, reporter=self.reporter, stop=self.stop
        )
        self.reporter.start("training", self.total_epochs - self.state.epochs_closed)
        optim.set_modes(segmenter)
        optimizer = optim.build_optimizer(
            self.config,
            parameters,
            learning_rate=self._rate(span, span.start),
            scaled=self._scaler() is not None,
        )
        average = optim.Average(parameters, self.config.ema) if self.config.ema else None
        if self._restored is not None and self.state.step > span.start:
            own, raw = optim.split_raw(self._restored.optimizer)
            optim.load_optimizer(optimizer, parameters, own)
            if average is not None:
                average.load(self._restored.model, raw)
        self._restored = None
        module, wrapped = self.fabric.setup(StepModule(segmenter, span.stage), optimizer)
        trained = sum(parameter.numel() for parameter in parameters.values())
        self.reporter.info(
            f"stage {span.stage.name}: steps {max(span.start, self.state.step)} to {span.end}, "
            f"{trained / 1e6:.2f} M parameters train"
        )
        return _Running(
            span=span,
            parameters=parameters,
            optimizer=optimizer,
            module=module,
            wrapped_optimizer=wrapped,
            average=average,
            cache=cache,
        )

    # State ----------------------------------------------------------------------------------------------------------

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint; call it before `run`.

        Raises:
            CheckpointError: it is damaged, or of a run with other settings or data; nothing is changed.
        """
        snapshot = read_snapshot(folder)
        single = len(self.job.segmenter.stages()) == 1
        check_identity(
            snapshot.identity,
            self.job.identity,
            may_prolong=single and not depends_on_length(self.config),
            where=folder,
        )
        try:
            self.job.segmenter.load_state_dict(dict(snapshot.model))
        except RuntimeError as error:
            raise CheckpointError(
                "checkpoint does not fit the model",
                where=folder,
                why=str(error),
                fix="train a new run with --name NAME",
            ) from error
        self.state = snapshot.state
        if self.state.finished and self.state.step < self.total_steps:
            # A longer run than before: an epoch that ended early goes on.
            self.state.finished = False
            self.state.epochs_closed = self.state.step // self.order.steps_per_epoch
        self._seconds_before = self.state.seconds
        if self.fabric.is_global_zero:
            self.record.log.cut(self.state.log_bytes)
        scaler = self._scaler()
        if scaler is not None and self.state.scaler:
            scaler.load_state_dict(self.state.scaler)
        self._restored = snapshot
        self.reporter.info(f"resuming from {folder.name} (epoch {self.state.epochs_closed + 1})")

    def _save(self, running: _Running) -> None:
        self.state.seconds = self._seconds()
        self._last_save = time.monotonic()
        if not self.fabric.is_global_zero:
            return
        scaler = self._scaler()
        self.state.scaler = {} if scaler is None else dict(scaler.state_dict())
        self.state.log_bytes = self.record.log.sync()
        guard.check_weights(self.job.segmenter, step=self.state.step)
        optimizer = optim.optimizer_tensors(running.optimizer, running.parameters)
        model = dict(self.job.segmenter.state_dict())
        if running.average is not None:
            optimizer.update(running.average.raw_tensors())
            model.update(running.average.shadow)
        self.checkpoints.save(Snapshot(model=model, optimizer=optimizer, state=self.state, identity=self.job.identity))

    def _seconds(self) -> float:
        """Training time, resumed parts included."""
        return self._seconds_before + time.monotonic() - self._began

    def _should_stop(self) -> bool:
        if self.fabric.world_size == 1:
            return self.stop.wanted
        wanted = torch.tensor(float(self.stop.wanted), device=self.fabric.device)
        return bool(torch.as_tensor(self.fabric.all_reduce(wanted, reduce_op="max")) > 0)

    def _interrupt(self, running: _Running) -> None:
        self._save(running)
        self.stop.raise_interrupted(saved=f"state saved at step {self.state.step}", fix=self.job.resume_command)

    def _scaler(self) -> torch.amp.GradScaler | None:
        precision = self.fabric.strategy.precision
        return precision.scaler if isinstance(precision, MixedPrecision) else None


def _numbers(tensors: dict[str, Tensor]) -> dict[str, float]:
    """Several scalars in one transfer from the device."""
    stacked = torch.stack([tensor.detach().float().reshape(()) for tensor in tensors.values()]).tolist()
    return dict(zip(tensors, stacked, strict=True))
