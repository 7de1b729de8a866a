"""May these experts be merged with this general model? Every difference of every expert, in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmoe_cli.core.base.errors import CheckpointError, MedMoEError, raise_all
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.models.sam_med3d_moe.merging import differing_keys
from medmoe_cli.core.models.sam_med3d_moe.stages import QUERY_TOKENS
from medmoe_cli.core.workflows.merging.parts import Part

_SHARED = {"image encoder": "image_encoder.", "prompt encoder": "prompt_encoder."}


def check_parts(general: Part, experts: Sequence[Part]) -> None:
    """Refuse experts that did not start from this general model, or see scans in another way.

    Args:
        general: a general model, or that of a merged one.
        experts: to be merged with it.

    Raises:
        CheckpointError, ProblemList: exit code 4, each difference by itself.
    """
    problems: list[MedMoEError] = []
    if general.config.role == "expert":
        problems.append(
            CheckpointError(
                f"'{general.model}' is an expert",
                where="--general",
                why="its decoder knows one task",
                fix=f"name the general model that it was started from: {general.config.general}",
            )
        )
    for expert in experts:
        problems += [_refusal(general, expert, why) for why in differences(general, expert)]
    raise_all(problems)


def differences(general: Part, expert: Part) -> list[str]:
    """What keeps an expert from being merged, one phrase for each key; the tensors' where the keys agree."""
    if expert.config.role != "expert" or QUERY_TOKENS not in expert.tensors:
        return [f"model.role: {expert.config.role}, not expert"]
    found = list(differing_keys(general.config, expert.config))
    keys = found + _of_plans(general.plan, expert.plan)
    if found:
        return keys
    for what, prefix in _SHARED.items():
        name = first_difference(general.tensors, expert.tensors, prefix)
        if name is not None:
            keys.append(f"{what}: tensor {name} differs")
    return keys


def first_difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], prefix: str) -> str | None:
    """The first tensor under a prefix, by name, whose bytes are not equal in both; None when all are."""
    names = sorted(name for name in {*ours, *theirs} if name.startswith(prefix))
    for name in names:
        if name not in ours or name not in theirs or tensor_sha256(ours[name]) != tensor_sha256(theirs[name]):
            return name
    return None


def tensor_sha256(tensor: Tensor) -> str:
    """Hex digest of a tensor's type, shape and bytes."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _of_plans(ours: Plan, theirs: Plan) -> list[str]:
    found = []
    if theirs.input_size != ours.input_size:
        found.append(f"plan.input_size: {theirs.input_size}, not {ours.input_size}")
    if theirs.spacing_mm != ours.spacing_mm:
        found.append(f"plan.spacing_mm: {_spacing(theirs)}, not {_spacing(ours)}")
    if len(theirs.channels) != len(ours.channels):
        return [*found, f"plan.channels: {len(theirs.channels)}, not {len(ours.channels)}"]
    for place, (one, other) in enumerate(zip(theirs.channels, ours.channels, strict=True)):
        if _intensities(one) != _intensities(other) and not clips_alone(one, other):
            found.append(f"plan.channels[{place}].normalization: {_intensities(one)}, not {_intensities(other)}")
    return found


def clips_alone(expert: ChannelPlan, general: ChannelPlan) -> bool:
    """Both standardise each scan, and the expert clips CT before: a general model of all modalities does not.

    The merged model does as the general one. CT has little beyond the range; what has (MR) would lose its brightest
    half if it were the other way round, which is refused.
    """
    return general.normalization == expert.normalization == "zscore" and general.low is None and expert.low is not None


def _spacing(plan: Plan) -> str:
    return "none" if plan.spacing_mm is None else " x ".join(f"{side:g}" for side in plan.spacing_mm)


def _intensities(channel: ChannelPlan) -> str:
    limits = "" if channel.low is None or channel.high is None else f" {channel.low:g} to {channel.high:g}"
    return channel.normalization + limits


def _refusal(general: Part, expert: Part, why: str) -> CheckpointError:
    if why.startswith("model.role"):
        fix = f"--set model.role=expert --set model.general={general.model}"
    else:
        fix = f"train it again from this general model: --set model.role=expert --set model.general={general.model}"
        if why.startswith("plan."):
            fix += " and the general model's value of this key"
    return CheckpointError(
        f"expert '{expert.name}' does not go with '{general.model}'", where=expert.model, why=why, fix=fix
    )
