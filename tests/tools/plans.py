"""Plans and fingerprints for tests, with the few values that matter given by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.fingerprint import CaseFacts, ChannelStatistics, Fingerprint
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.data.dataset import Case, Dataset
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image

SLICES = Card(name="segmote", title="", paper="", dims=2, prompts=(), licence="MIT", summary="")
VOLUMES = Card(name="volumes", title="", paper="", dims=3, prompts=(), licence="MIT", summary="")


def slice_plan(
    *,
    input_size: int = 64,
    slice_axis: int = 2,
    channels: Sequence[ChannelPlan] = (ChannelPlan(name="MR", normalization="percentile"),),
    labels: Mapping[str, int] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    mirror_axes: tuple[str, ...] = (),
    context_slices: int = 0,
) -> Plan:
    """A plan of a 2D method, or with `spacing_mm` of a 3D one."""
    labels = dict(labels or {"organ": 1, "lesion": 2})
    return Plan(
        dataset="phantoms",
        method="segmote",
        preset="test",
        dims=2 if spacing_mm is None else 3,
        slice_axis=slice_axis,
        input_size=input_size,
        spacing_mm=spacing_mm,
        channels=tuple(channels),
        labels=labels,
        class_prompts={name: name for name in labels},
        binary=len(labels) == 1,
        mirror_axes=mirror_axes,
        context_slices=context_slices,
        batch_size=2,
        num_experts=4,
        fingerprint_sha256="0" * 64,
        reasons={},
    )


def image_of(data: NDArray[np.generic], geometry: Geometry, *, name: str = "scan.nii.gz") -> Image:
    """An image in memory, (C, X, Y, Z)."""
    return Image(data=data, geometry=geometry, header=Header(format="nifti", path=Path(name)))


def fingerprint_of(
    *,
    shapes: Sequence[tuple[int, int, int]] = ((100, 80, 20),),
    spacings: Sequence[tuple[float, float, float]] = ((1.0, 1.0, 3.0),),
    channels: Sequence[str] = ("MR",),
    low: float = 10.0,
    high: float = 900.0,
    minimum: float = 0.0,
    maximum: float = 1000.0,
) -> Fingerprint:
    """A fingerprint of cases with these canonical shapes and spacings."""
    statistics = ChannelStatistics(
        mean=200.0,
        std=50.0,
        minimum=minimum,
        maximum=maximum,
        percentile_00_5=low,
        percentile_50=(low + high) / 2,
        percentile_99_5=high,
        num_voxels=1000,
    )
    cases = {
        f"case_{number:03d}": CaseFacts(shape=shape, spacing_mm=spacing, voxels_per_label={1: 10})
        for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
    }
    shape, spacing = np.median(shapes, axis=0).tolist(), np.median(spacings, axis=0).tolist()
    return Fingerprint(
        dataset="phantoms",
        num_cases=len(cases),
        num_channels=len(channels),
        dimensionality=2 if all(1 in case for case in shapes) else 3,
        median_shape=tuple(shape),
        median_spacing_mm=tuple(spacing),
        foreground=dict.fromkeys(channels, statistics),
        cases=cases,
        inputs_sha256="1" * 64,
    )


def dataset_of(
    *,
    channels: Sequence[str] = ("MR",),
    labels: Mapping[str, int] | None = None,
    ending: str = ".nii.gz",
    modality: str = "",
    patients: Sequence[str] = ("a",),
    class_prompts: Mapping[str, str] | None = None,
) -> Dataset:
    """A dataset that exists in name only, one case per entry of `patients`."""
    labels = dict(labels or {"organ": 1, "lesion": 2})
    root = Path("/nowhere/phantoms")
    return Dataset(
        name="phantoms",
        root=root,
        channels=tuple(channels),
        labels=labels,
        file_ending=ending,
        training=tuple(
            Case(id=f"case_{number:03d}", images=(root / "x",), label=root / "y", patient=patient)
            for number, patient in enumerate(patients)
        ),
        test=(),
        class_prompts=dict(class_prompts or {name: name for name in labels}),
        modality=modality,
    )
