"""The report's numbers: every task by the general model, by its expert and by the merged model, and who was called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.config.merge_report import GENERAL, LeftOut, Routed, TaskScore, Way
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.validate import chosen_samples
from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.merging import expert_config
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.weights import load_into
from medmoe_cli.core.workflows.merging.asking import (
    WAYS,
    Answered,
    Asked,
    Asking,
    always_open,
    dice_of,
    first_prompt,
    without,
)
from medmoe_cli.core.workflows.merging.data import MergeData, Task
from medmoe_cli.core.workflows.merging.tau import Seen

_UNHEARD = 1e-3  # leaving out an expert that never had more than this changes no mask worth counting
_FEW_CLICKS = 3  # of the queries that choose tau


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """One held-out sample asked in one way; `alone` is its expert's Dice, `left_out` by the expert's index."""

    task: Task
    way: Way
    general: float
    alone: float | None
    merged: Answered
    left_out: Mapping[int, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What the report says of Dice and routing; attributes as in `MergeReport`."""

    tasks: tuple[TaskScore, ...]
    forgetting: dict[str, float]
    gain_kept: dict[str, float | None]
    routing: Routed
    left_out: tuple[LeftOut, ...]


class Scoring:
    """Asks the merged model and its parts.

    Args:
        merged: with all its experts.
        config, plan: of the merged model.
        data: its tasks.
        compute: device and precision.
        limit: at most so many samples per task.
        reporter: receives progress.
        check: called between samples; raises to interrupt.
    """

    def __init__(
        self,
        merged: SamMed3dMoe,
        *,
        config: SamMed3dMoeConfig,
        plan: Plan,
        data: MergeData,
        compute: Compute,
        limit: int | None,
        reporter: Reporter,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.merged, self.config, self.plan, self.data = merged, config, plan, data
        self.limit, self.reporter, self.compute = limit, reporter, compute
        self.asking = Asking(merged, compute=compute, check=check)
        self.tasks = {task.value: task for task in data.tasks}
        self._parts: dict[int, SamMed3dMoe] = {}

    def use(self, config: SamMed3dMoeConfig) -> None:
        """Score with another threshold."""
        self.config = self.merged.config = config

    def queries_for_tau(self) -> list[Seen]:
        """One point, a few points and a box on each sample held out of the gate's training."""
        assert self.data.choosing is not None
        source = self.data.choosing
        general = self._part(0)
        found: list[Seen] = []
        indices = range(len(source))
        self.reporter.start("choosing tau", len(indices))
        with always_open(self.merged) as opened:
            for index, asked in zip(indices, self.asking.samples(source, indices), strict=True):
                for way in WAYS:
                    found += self._seen(general, opened, asked, way)
                self.reporter.advance(source.key(index))
        self.reporter.finish()
        return found

    def scores(self) -> Scores:
        """Everything about the held-out samples."""
        source = self.data.held_out
        by_task: dict[int, list[int]] = {value: [] for value in self.tasks}
        for index in range(len(source)):
            (value,) = source.classes(index)
            by_task[value].append(index)
        rows: list[_Row] = []
        chosen = {
            value: [found[place] for place in chosen_samples(len(found), self.limit)]
            for value, found in by_task.items()
            if found
        }
        self.reporter.start("scoring held-out samples", sum(map(len, chosen.values())))
        for value, indices in chosen.items():
            for index, asked in zip(indices, self.asking.samples(source, indices), strict=True):
                rows += [self._row(self.tasks[value], asked, way) for way in WAYS]
                self.reporter.advance(source.key(index))
        self.reporter.finish()
        return self._tables(rows)

    def _row(self, task: Task, asked: Asked, way: Way) -> _Row:
        merged = self.asking.ask(self.merged, asked, way)
        left_out = {}
        for expert in range(len(self.config.experts)):
            left_out[expert] = merged.dice
            if merged.heard[expert + 1] > _UNHEARD:
                with without(self.merged, expert) as rest:
                    left_out[expert] = self.asking.ask(rest, asked, way).dice
        alone = self.asking.ask(self._part(task.owner), asked, way).dice if task.owner else None
        return _Row(
            task=task,
            way=way,
            general=self.asking.ask(self._part(0), asked, way).dice,
            alone=alone,
            merged=merged,
            left_out=left_out,
        )

    def _seen(self, general: SamMed3dMoe, opened: SamMed3dMoe, asked: Asked, way: Way) -> list[Seen]:
        """Queries along the general model's own clicks, each answered by both."""
        prompts = first_prompt(asked, way)
        found = []
        for round_ in range(_FEW_CLICKS if way == "points" else 1):
            plain = self.asking.answer(general, asked, prompts)
            fused = self.asking.answer(opened, asked, prompts)
            if round_ in {0, _FEW_CLICKS - 1}:
                found.append(
                    Seen(
                        task=asked.task,
                        is_general=self.tasks[asked.task].owner == 0,
                        share=float(fused.routing["gate"].gates[0, 1]),
                        general=dice_of(plain.logits, asked),
                        fused=dice_of(fused.logits, asked),
                    )
                )
            prompts = self.asking.click(prompts, plain, asked)
        return found

    def _part(self, owner: int) -> SamMed3dMoe:
        """The general model (0), or an expert as it was before merging; the encoder is the merged model's own."""
        if owner not in self._parts:
            tensors = self.merged.state_dict()
            config = self.config.model_copy(update={"role": "general", "experts": (), "general": None})
            plan = self.plan
            if owner:
                entry = self.config.experts[owner - 1]
                config = expert_config(config, source=GENERAL)
                names = {name: value for value, name in enumerate(entry.classes, start=1)}
                plan = plan.model_copy(update={"labels": names, "dataset": entry.name, "binary": len(names) == 1})
                tensors.update(_own(tensors, owner - 1))
            model = SamMed3dMoe.build(config, plan, restore=True)
            known = model.state_dict()
            load_into(model, {name: tensors[name] for name in known}, where="the merged model")
            model.image_encoder = self.merged.image_encoder
            self._parts[owner] = model.to(self.compute.device).eval()
        return self._parts[owner]

    def _tables(self, rows: Sequence[_Row]) -> Scores:
        tasks = _task_scores(rows, (GENERAL, *(entry.name for entry in self.config.experts)))
        return Scores(
            tasks=tasks,
            forgetting=_forgetting(tasks),
            gain_kept={entry.name: gain_kept(tasks, entry.name) for entry in self.config.experts},
            routing=self._routing(rows),
            left_out=self._left_out(rows),
        )

    def _routing(self, rows: Sequence[_Row]) -> Routed:
        owners = (GENERAL, *(entry.name for entry in self.config.experts))
        counts = [[0] * len(owners) for _ in owners]
        for row in rows:
            counts[row.task.owner][row.merged.opened] += 1
        return Routed(owners=owners, counts=tuple(tuple(line) for line in counts))

    def _left_out(self, rows: Sequence[_Row]) -> tuple[LeftOut, ...]:
        owners = (GENERAL, *(entry.name for entry in self.config.experts))
        found = []
        for expert, entry in enumerate(self.config.experts):
            deltas = {
                name: mean(row.left_out[expert] - row.merged.dice for row in rows if row.task.owner == owner)
                for owner, name in enumerate(owners)
                if any(row.task.owner == owner for row in rows)
            }
            found.append(LeftOut(expert=entry.name, deltas=deltas))
        return tuple(found)


def gain_kept(tasks: Sequence[TaskScore], expert: str) -> float | None:
    """The share of an expert's gain over the general model that the merged model keeps; None where it gained nothing.

    Gains are means over the expert's tasks and both ways.
    """
    own = [(score, score.expert) for score in tasks if score.owner == expert and score.expert is not None]
    gained = mean(alone - score.general for score, alone in own)
    kept = mean(score.merged - score.general for score, _ in own)
    return kept / gained if own and gained > 0 else None


def mean(values: Iterable[float]) -> float:
    """0 of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _task_scores(rows: Sequence[_Row], owners: Sequence[str]) -> tuple[TaskScore, ...]:
    groups: dict[tuple[int, Way], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.task.value, row.way), []).append(row)
    found = []
    for (_, way), group in sorted(groups.items(), key=lambda item: (item[0][0], WAYS.index(item[0][1]))):
        task = group[0].task
        alone = [row.alone for row in group if row.alone is not None]
        found.append(
            TaskScore(
                dataset=task.dataset,
                class_name=task.class_name,
                owner=owners[task.owner],
                way=way,
                n=len(group),
                general=mean(row.general for row in group),
                expert=mean(alone) if alone else None,
                merged=mean(row.merged.dice for row in group),
            )
        )
    return tuple(found)


def _forgetting(tasks: Sequence[TaskScore]) -> dict[str, float]:
    found = {}
    for way in WAYS:
        changes = [score.merged - score.general for score in tasks if score.owner == GENERAL and score.way == way]
        if changes:
            found[str(way)] = mean(changes)
    return found


def _own(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    prefix = f"experts.{index}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
