"""The planner: every value of a plan from the fingerprint, each with its reason in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.fingerprint import Fingerprint
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.class_words import class_words
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.laterality import AXIS_NAMES, opposites, sided_names
from medmoe_cli.core.data.plan_intensity import plan_channels
from medmoe_cli.core.data.plan_spacing import target_spacing

GIB = 1 << 30
SIZE_STEP = 32
MIN_INPUT_SIZE, MAX_INPUT_SIZE = 64, 1024
VOLUME_INPUT_SIZE = 128
DEFAULT_EXPERTS = 4
MAX_EXPERTS = 16
MAX_BATCH = {True: 16, False: 8}
MAX_VOLUME_BATCH = {True: 16, False: 2}

# A slice axis must be clearly the coarsest; below this ratio a volume counts as isotropic.
_COARSER = 1.05
# Training memory of one image per input pixel or voxel, a rough upper bound: a ViT-B encoder with its activations kept.
_BYTES_PER_PIXEL = 6000
_BYTES_PER_VOXEL = 1500
_MEMORY_SHARE = 0.6
# nnU-Net's rule: one batch covers at most 5 % of the data, but two samples at least.
_DATA_SHARE = 0.05
_MIN_CAPPED_BATCH = 2


@dataclass(kw_only=True, slots=True)
class _Draft:
    """What is decided so far, for the steps that need it."""

    dataset: Dataset
    fingerprint: Fingerprint
    overrides: PlanConfig
    volume_method: bool
    reasons: dict[str, str] = field(default_factory=dict)


def make_plan(
    *,
    dataset: Dataset,
    fingerprint: Fingerprint,
    card: Card,
    method: str,
    preset: str,
    overrides: PlanConfig,
    memory_bytes: int = 16 * GIB,
    cuda: bool = False,
) -> Plan:
    """Decide everything that the data decide.

    Args:
        dataset: names of channels and classes.
        fingerprint: its measurements.
        card: the method's; its `dims` tells slices from volumes.
        method: as typed after `--method`.
        preset: the preset's name.
        overrides: values that are already decided; each says so in its reason.
        memory_bytes: memory of the device that will train.
        cuda: whether that device is a GPU.

    Raises:
        ConfigError: mirroring is on, and classes that tell sides have no partner to change places with.
        DataError: the fingerprint does not hold what a channel's normalisation needs.
    """
    draft = _Draft(dataset=dataset, fingerprint=fingerprint, overrides=overrides, volume_method=card.dims == 3)
    slice_axis = _slice_axis(draft)
    input_size = _input_size(draft, slice_axis)
    labels = _labels(draft)
    planned = plan_channels(
        dataset, fingerprint, overrides.normalization, window=overrides.window, volumes=draft.volume_method
    )
    draft.reasons["normalization"] = planned.reason
    mirror_axes = _mirror_axes(draft, slice_axis, planned.channels)
    mirror_swaps = _mirror_swaps(draft, slice_axis, mirror_axes, labels)
    context_slices = _context_slices(draft, slice_axis)
    spacing = None
    if draft.volume_method:
        spacing, draft.reasons["spacing_mm"] = target_spacing(fingerprint, overrides.spacing_mm)
    else:
        draft.reasons["spacing_mm"] = "none: a 2D method keeps each slice's own grid"
    return Plan(
        dataset=dataset.name,
        method=method,
        preset=preset,
        dims=card.dims,
        slice_axis=slice_axis,
        input_size=input_size,
        spacing_mm=spacing,
        channels=planned.channels,
        labels=labels,
        file_labels={name: dataset.labels[name] for name in labels},
        class_prompts=_class_prompts(draft, labels),
        binary=_binary(draft),
        mirror_axes=mirror_axes,
        mirror_swaps=mirror_swaps,
        context_slices=context_slices,
        batch_size=_batch_size(draft, slice_axis, input_size, memory_bytes, cuda),
        num_experts=_num_experts(draft),
        fingerprint_sha256=value_sha256(fingerprint),
        reasons=dict(draft.reasons),
    )


def slice_shape_axes(slice_axis: int) -> tuple[int, int]:
    """Canonical axes shown across (columns) and down (rows), as `imaging.slices` cuts."""
    across, down = (axis for axis in range(3) if axis != slice_axis)
    return across, down


def mirrored_directions(slice_axis: int, *, volumes: bool) -> tuple[tuple[str, int], ...]:
    """The network axes that may be mirrored, by name, with the canonical axis of each."""
    if volumes:
        return tuple(zip("xyz", range(3), strict=True))
    return tuple(zip(("horizontal", "vertical"), slice_shape_axes(slice_axis), strict=True))


def _slice_axis(draft: _Draft) -> int:
    spacing, shape = draft.fingerprint.median_spacing_mm, draft.fingerprint.median_shape
    chosen = draft.overrides.slice_axis
    if chosen != "auto":
        draft.reasons["slice_axis"] = f"{chosen}: set by the preset or --set"
        return "xyz".index(chosen)
    flat = [axis for axis in range(3) if shape[axis] == 1]
    if draft.fingerprint.dimensionality == 2 and flat:
        axis = 2 if 2 in flat else flat[0]
        draft.reasons["slice_axis"] = f"{'xyz'[axis]}: the images are 2D"
        return axis
    axis = int(np.argmax(spacing))
    others = max(spacing[other] for other in range(3) if other != axis)
    if spacing[axis] < _COARSER * others:
        draft.reasons["slice_axis"] = f"z: the median spacing {_by(spacing)} mm is the same along all axes"
        return 2
    draft.reasons["slice_axis"] = f"{'xyz'[axis]}: the coarsest axis of the median spacing {_by(spacing)} mm"
    return axis


def _input_size(draft: _Draft, slice_axis: int) -> int:
    if draft.overrides.input_size is not None:
        draft.reasons["input_size"] = f"{draft.overrides.input_size}: set by the preset or --set"
        return draft.overrides.input_size
    if draft.volume_method:
        draft.reasons["input_size"] = f"{VOLUME_INPUT_SIZE}: the window of a 3D method"
        return VOLUME_INPUT_SIZE
    shape, spacing = draft.fingerprint.median_shape, draft.fingerprint.median_spacing_mm
    shown = slice_shape_axes(slice_axis)
    finest = min(spacing[axis] for axis in shown)
    pixels = max(shape[axis] * spacing[axis] for axis in shown) / finest
    rounded = SIZE_STEP * max(1, math.ceil(round(pixels, 6) / SIZE_STEP))
    own = draft.overrides.max_input_size
    most = MAX_INPUT_SIZE if own is None else SIZE_STEP * (own // SIZE_STEP)
    size = max(min(MIN_INPUT_SIZE, most), min(most, rounded))
    limit = "" if size == rounded else f", at {'most' if size < rounded else 'least'} {size}"
    if own is not None and size < rounded:
        limit += ": max_input_size is set by the preset or --set"
    across, down = shown
    draft.reasons["input_size"] = (
        f"{size}: the median slice is {shape[across]:g}x{shape[down]:g} pixels, {pixels:.4g} of the finer spacing "
        f"along its longer side; rounded up to a multiple of {SIZE_STEP}{limit}"
    )
    return size


def _context_slices(draft: _Draft, slice_axis: int) -> int:
    wanted = draft.overrides.context_slices
    if wanted and draft.volume_method:
        reason = "0: a 3D method sees all slices anyway"
    elif wanted and (draft.fingerprint.dimensionality == 2 or draft.fingerprint.median_shape[slice_axis] <= 1):
        reason = "0: the images are 2D, a slice has no neighbours"
    elif wanted:
        draft.reasons["context_slices"] = f"{wanted} on each side: set by the preset or --set"
        return wanted
    else:
        reason = "0: each slice is shown alone"
    draft.reasons["context_slices"] = reason
    return 0


def _labels(draft: _Draft) -> dict[str, int]:
    names = sorted(draft.dataset.labels, key=lambda name: draft.dataset.labels[name])
    labels = {name: index for index, name in enumerate(names, start=1)}
    values = [draft.dataset.labels[name] for name in names]
    if list(labels.values()) == values:
        draft.reasons["labels"] = f"{_count(len(names), 'class', 'classes')} as in dataset.json"
    else:
        draft.reasons["labels"] = f"values {_some(values)} of the files become 1 to {len(names)} in training"
    return labels


def _class_prompts(draft: _Draft, labels: Mapping[str, int]) -> dict[str, str]:
    given = draft.dataset.class_prompts
    own = [name for name in labels if given.get(name, name) != name]
    draft.reasons["class_prompts"] = (
        f"{len(own)} of {len(labels)} from dataset.json, the names in words otherwise"
        if own
        else "the classes' names in words"
    )
    return {name: given[name] if name in own else class_words(name) for name in labels}


def _binary(draft: _Draft) -> bool:
    count = len(draft.dataset.labels)
    draft.reasons["binary"] = f"{'yes' if count == 1 else 'no'}: {_count(count, 'class', 'classes')}"
    return draft.dataset.binary


def _mirror_axes(draft: _Draft, slice_axis: int, channels: tuple[ChannelPlan, ...]) -> tuple[str, ...]:
    wanted = draft.overrides.mirror
    directions = mirrored_directions(slice_axis, volumes=draft.volume_method)
    if wanted != "auto":
        every = "all" if draft.volume_method else "both"
        draft.reasons["mirror_axes"] = f"{every if wanted == 'on' else 'none'}: set by the preset or --set"
        return tuple(direction for direction, _ in directions) if wanted == "on" else ()
    sided = sided_names(tuple(draft.dataset.labels))
    coloured = len(channels) == 3 and all(channel.normalization == "rgb" for channel in channels)
    chosen, phrases = [], []
    for direction, axis in directions:
        if sided[axis]:
            phrases.append(f"{direction} off: '{sided[axis]}' tells {AXIS_NAMES[axis]}")
        elif direction == "vertical" and not coloured:
            phrases.append("vertical off: scans have an up and a down")
        else:
            chosen.append(direction)
            why = "colour pictures have no up" if direction == "vertical" else f"no class tells {AXIS_NAMES[axis]}"
            phrases.append(f"{direction} on: {why}")
    draft.reasons["mirror_axes"] = "; ".join(phrases)
    return tuple(chosen)


def _mirror_swaps(
    draft: _Draft, slice_axis: int, mirror_axes: tuple[str, ...], labels: Mapping[str, int]
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Classes that change places when an axis is mirrored although they tell its sides."""
    swaps: dict[str, tuple[tuple[int, int], ...]] = {}
    problems: list[MedMoEError] = []
    for direction, axis in mirrored_directions(slice_axis, volumes=draft.volume_method):
        if direction not in mirror_axes:
            continue
        partners = opposites(tuple(labels), axis)
        problems += [
            ConfigError(
                "class without its other side",
                where=name,
                why=f"plan.mirror=on mirrors {AXIS_NAMES[axis]}, and no other class is what '{name}' becomes",
                fix="--set plan.mirror=auto, or off",
            )
            for name, partner in partners.items()
            if not partner
        ]
        pairs = {tuple(sorted((labels[name], labels[partner]))) for name, partner in partners.items() if partner}
        if pairs:
            swaps[direction] = tuple(sorted((one, other) for one, other in pairs))
    raise_all(problems)
    if swaps:
        names = {value: name for name, value in labels.items()}
        told = "; ".join(
            f"{direction}: " + ", ".join(f"{names[one]} and {names[other]}" for one, other in pairs)
            for direction, pairs in swaps.items()
        )
        draft.reasons["mirror_swaps"] = f"classes that change places in a mirrored image: {told}"
    return swaps


def _batch_size(draft: _Draft, slice_axis: int, input_size: int, memory_bytes: int, cuda: bool) -> int:
    if draft.overrides.batch_size is not None:
        draft.reasons["batch_size"] = f"{draft.overrides.batch_size}: set by the preset or --set"
        return draft.overrides.batch_size
    each = _BYTES_PER_VOXEL * input_size**3 if draft.volume_method else _BYTES_PER_PIXEL * input_size**2
    fitting = max(1, int(_MEMORY_SHARE * memory_bytes / each))
    cases = draft.fingerprint.cases.values()
    samples = sum(len(case.voxels_per_label) if draft.volume_method else case.shape[slice_axis] for case in cases)
    covering = max(_MIN_CAPPED_BATCH, int(_DATA_SHARE * samples))
    most = (MAX_VOLUME_BATCH if draft.volume_method else MAX_BATCH)[cuda]
    size = min(fitting, covering, most)
    unit = "windows, one for each class of each case," if draft.volume_method else "slices"
    draft.reasons["batch_size"] = (
        f"{size}: {fitting} fit into {memory_bytes / GIB:.1f} GiB of {'GPU' if cuda else 'main'} memory at "
        f"{each / GIB:.2g} GiB each, 5 % of {samples} {unit} are {covering}, at most {most} on "
        f"{'a GPU' if cuda else 'a CPU'}"
    )
    return size


def _num_experts(draft: _Draft) -> int:
    if draft.overrides.num_experts is not None:
        draft.reasons["num_experts"] = f"{draft.overrides.num_experts}: set by the preset or --set"
        return draft.overrides.num_experts
    modalities = max(1, len(modality_names(draft.dataset.modality)))
    size = min(MAX_EXPERTS, max(DEFAULT_EXPERTS, modalities))
    draft.reasons["num_experts"] = (
        f"{size}: one for each of {modalities} modalities"
        if modalities > DEFAULT_EXPERTS
        else f"{size}: the published number, enough for {_count(modalities, 'modality', 'modalities')}"
    )
    return size


def modality_names(modality: str) -> tuple[str, ...]:
    """The distinct modalities a dataset names: 'CT, MR and X-ray' has three."""
    parts = modality.casefold().replace(" and ", ",")
    for separator in ";+&|":
        parts = parts.replace(separator, ",")
    return tuple(dict.fromkeys(part.strip() for part in parts.split(",") if part.strip()))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def _by(values: tuple[float, float, float]) -> str:
    return "x".join(f"{value:.4g}" for value in values)
