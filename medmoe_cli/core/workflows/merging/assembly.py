"""The merged model put together: its plan, its configuration and its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import Preset, Resolved, resolve
from medmoe_cli.core.models.sam_med3d_moe.config import ExpertEntry, SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.merging import (
    differing_keys,
    expert_names,
    experts_from,
    merged_config,
    shared_from,
)
from medmoe_cli.core.workflows.merging.options import DEFAULT_STEPS, MergeOptions
from medmoe_cli.core.workflows.merging.parts import METHOD, Growing, Part

# Of the gate's training where nothing is said: a fresh gate learns whose task it sees in a few hundred small steps.
_TRAINING = {
    "steps": DEFAULT_STEPS,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_steps": 20,
    "queries_per_image": 1,
    "workers": 0,
}
_NOT_SET_HERE = ("plan", "augment", "predict")
_FIXED = ("role", "general", "experts")


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    """A merged model before its gate has learned.

    Attributes:
        config, plan: of the merged model.
        resolved: the gate's training.
        general: tensors of encoder, prompt encoder and general decoder.
        gate: of the gate that grows; None for a fresh one.
        added: the new experts' own tensors, by index.
        kept: files of the experts that were there, by index.
    """

    config: SamMed3dMoeConfig
    plan: Plan
    resolved: Resolved
    general: Mapping[str, Tensor]
    gate: Mapping[str, Tensor] | None
    added: Mapping[int, Mapping[str, Tensor]]
    kept: Mapping[int, Path]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all experts, in order."""
        return tuple(entry.name for entry in self.config.experts)

    def added_tensors(self) -> dict[str, Tensor]:
        """The general's tensors and the new experts' under their names in the merged model; no earlier expert's."""
        found = dict(self.general)
        for index, tensors in self.added.items():
            found.update(expert_names(tensors, index))
        return found


def assemble(general: Part, experts: Sequence[Part], options: MergeOptions, *, growing: Growing | None) -> Assembly:
    """Put the parts together.

    Args:
        general: checked against the experts.
        experts: new ones.
        options: `fuse`, `steps`, a `tau` that is a number, `assignments`.
        growing: the merged model that `general` is of.

    Raises:
        ConfigError: unknown keys, bad values, or keys that the parts have decided.
    """
    entries = [*(general.config.experts if growing is not None else ())]
    first = len(entries)
    entries += [ExpertEntry(name=expert.name, classes=expert.plan.class_names) for expert in experts]
    plan = merged_plan(general.plan, experts, num_experts=len(entries))
    keys: dict[str, Any] = {}
    if isinstance(options.tau, float | int):
        keys["tau"] = options.tau
    if options.fuse is not None:
        keys["fuse"] = options.fuse
    resolved = _resolved(merged_config(general.config, entries, **keys), options)
    config = resolved.model
    assert isinstance(config, SamMed3dMoeConfig)
    added = {}
    for place, expert in enumerate(experts):
        (added[first + place],) = experts_from(expert.tensors)
    return Assembly(
        config=config,
        plan=plan,
        resolved=resolved,
        general=shared_from(general.tensors),
        gate=None if growing is None else growing.gate,
        added=added,
        kept={} if growing is None else dict(enumerate(growing.experts.values())),
    )


def merged_plan(general: Plan, experts: Sequence[Part], *, num_experts: int) -> Plan:
    """The general model's plan with the experts' classes behind its own; a class they share is one class."""
    labels, prompts = dict(general.labels), dict(general.class_prompts)
    for expert in experts:
        for name in expert.plan.class_names:
            labels.setdefault(name, max(labels.values(), default=0) + 1)
        prompts = {**expert.plan.class_prompts, **prompts}
    return general.model_copy(
        update={
            "labels": labels,
            "file_labels": {},
            "class_prompts": prompts,
            "binary": len(labels) == 1,
            "mirror_axes": (),
            "mirror_swaps": {},
            "num_experts": num_experts,
            "reasons": {
                **general.reasons,
                "labels": "the general model's and its experts'",
                "mirror_axes": "none: a merged model trains its gate alone, on features",
            },
        }
    )


def _resolved(config: SamMed3dMoeConfig, options: MergeOptions) -> Resolved:
    """The configuration under `--set` and `--steps`, as `train` reads them."""
    for assignment in options.assignments:
        section, _, rest = assignment.partition(".")
        key = rest.partition("=")[0]
        if section in _NOT_SET_HERE or (section == "model" and key in _FIXED):
            raise ConfigError(
                f"cannot --set {assignment}",
                why="the models that are merged have decided it",
                fix="set keys of train, or of model: tau, fuse, fusion, gate_*, owner_weight",
            )
    preset = Preset(
        name="merge-experts",
        path=Path("merge-experts"),
        method=METHOD,
        description="a merged model",
        values={"method": METHOD, "model": config.model_dump(), "train": dict(_TRAINING)},
        origins={},
    )
    flags: dict[str, tuple[str, Any]] = {"train.steps": ("--steps", options.steps)}
    resolved = resolve(preset, SamMed3dMoeConfig, assignments=options.assignments, flags=flags)
    assert isinstance(resolved.model, SamMed3dMoeConfig)
    changed = differing_keys(config, resolved.model)
    if changed:
        raise ConfigError(
            "cannot change the network while merging",
            where="--set",
            why="; ".join(changed),
            fix="set keys of train, or of model: tau, fuse, fusion, gate_*, owner_weight",
        )
    return resolved
