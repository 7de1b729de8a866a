"""The conventions results can be computed by: this project's own, and those other numbers were published with.

A convention fixes what is averaged over, which metrics exist, what an empty mask means and how classes are combined.
Numbers of different conventions do not compare: a summary names the one it follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.metrics import scoring
from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances
from medmoe_cli.core.metrics.policy import EMPTY_MASKS
from medmoe_cli.core.metrics.scores import Column, LabelPair, UnitScores

Score = Callable[[LabelPair, tuple[ScoredClass, ...], Tolerances], tuple[UnitScores, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Convention:
    """How predictions are scored.

    Attributes:
        name: for `--convention`.
        description: one line for help and summaries.
        empty_masks: what a class absent from one or both masks counts as.
        columns: the metrics, in the order of tables.
        overall: how one number per metric is made: 'classes' averages the classes' means that are defined,
            'all-classes' is undefined as soon as one class's is, 'units' averages each unit over its classes first.
        score: scores one pair of label maps.
    """

    name: str
    description: str
    empty_masks: str
    columns: tuple[Column, ...]
    overall: Literal["classes", "all-classes", "units"]
    score: Score


_DICE = Column(name="Dice", unit="", definition="2 TP / (2 TP + FP + FN)")
_IOU = Column(name="IoU", unit="", definition="TP / (TP + FP + FN)")

MEDMOE = Convention(
    name="medmoe",
    description="per case and class, distances in mm between marching-cubes surfaces as in surface-distance",
    empty_masks=EMPTY_MASKS,
    columns=(
        _DICE,
        _IOU,
        Column(
            name="HD95",
            unit="mm",
            definition="larger of both directions' 95th percentile of surface distance, weighted by surface area, "
            "not interpolated (surface-distance's robust Hausdorff)",
            penalised=True,
        ),
        Column(name="HD", unit="mm", definition="largest surface distance of both directions", penalised=True),
        Column(
            name="NSD",
            unit="",
            definition="share of both surfaces' area within the tolerance of the other (surface-distance's surface "
            "Dice, MONAI's with use_subvoxels)",
        ),
        Column(
            name="ASSD",
            unit="mm",
            definition="mean distance over both surfaces together, weighted by surface area",
            penalised=True,
        ),
        Column(name="VolumeError", unit="ml", definition="predicted minus reference volume"),
        Column(name="AbsoluteVolumeError", unit="ml", definition="absolute value of VolumeError"),
        Column(
            name="RelativeVolumeError",
            unit="",
            definition="VolumeError divided by the reference volume; undefined without one",
        ),
    ),
    overall="classes",
    score=scoring.score_medmoe,
)

NNUNET = Convention(
    name="nnunet",
    description="nnU-Net's evaluation: Dice and IoU from voxel counts",
    empty_masks="absent from both: not counted; absent from one: 0; the foreground mean is undefined when a class "
    "occurs nowhere",
    columns=(_DICE, _IOU),
    overall="all-classes",
    score=scoring.score_nnunet,
)

TRANSUNET = Convention(
    name="transunet",
    description="TransUNet's, SAMed's and MoE-SAM's evaluation: per volume, HD95 in voxels as MedPy computes it",
    empty_masks="absent from both: Dice 1, HD95 0; absent from one: Dice 0 and HD95 0 (a missed organ lowers HD95)",
    columns=(
        _DICE,
        Column(
            name="HD95",
            unit="voxels",
            definition="95th percentile, interpolated, of both directions' distances between border voxels together; "
            "spacing ignored",
        ),
    ),
    overall="units",
    score=scoring.score_transunet,
)

SEGMOTE = Convention(
    name="segmote",
    description="SegMoTE's evaluation: 2-D, each image's mean over the classes present in it, then over images; "
    "volumes slice by slice along their coarsest axis",
    empty_masks="a class absent from the image's reference is skipped; images without any class are skipped",
    columns=(_DICE, _IOU),
    overall="units",
    score=scoring.score_segmote,
)

CONVENTIONS: dict[str, Convention] = {item.name: item for item in (MEDMOE, NNUNET, TRANSUNET, SEGMOTE)}


def convention(name: str) -> Convention:
    """The convention of a name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in CONVENTIONS:
        raise ConfigError(f"unknown convention '{name}'", where="--convention", fix=did_you_mean(name, CONVENTIONS))
    return CONVENTIONS[name]
