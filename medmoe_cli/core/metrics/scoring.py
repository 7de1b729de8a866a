"""How each convention scores one pair of label maps."""

from __future__ import annotations

from collections.abc import Iterator

from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances
from medmoe_cli.core.metrics.overlap import Counts
from medmoe_cli.core.metrics.policy import Presence, presence
from medmoe_cli.core.metrics.scores import ClassScores, LabelPair, UnitScores

_NAN = float("nan")


def score_medmoe(pair: LabelPair, classes: tuple[ScoredClass, ...], tolerances: Tolerances) -> tuple[UnitScores, ...]:
    """One unit per case: overlap, distances in mm and volumes under the policy of `policy.EMPTY_MASKS`."""
    return (_whole(pair, tuple(_medmoe_class(pair, scored, tolerances.of(scored)) for scored in classes)),)


def _medmoe_class(pair: LabelPair, scored: ScoredClass, tolerance_mm: float) -> ClassScores:
    counts = pair.pairs.of(scored.values)
    where = presence(counts)
    values = {"Dice": counts.dice, "IoU": counts.iou}
    penalised: dict[str, float] = {}
    if where is Presence.BOTH:
        distances = pair.surfaces(scored)
        values |= {
            "HD95": distances.robust_hausdorff_mm(95),
            "HD": distances.hausdorff_mm,
            "NSD": distances.surface_dice(tolerance_mm),
            "ASSD": distances.average_symmetric_mm,
        }
    else:
        values |= {"HD95": _NAN, "HD": _NAN, "NSD": _NAN, "ASSD": _NAN}
        if where is not Presence.TRUE_NEGATIVE:
            values["NSD"] = 0.0
            penalised = dict.fromkeys(("HD95", "HD", "ASSD"), pair.diagonal_mm)
    values |= _volume_errors(counts, where, pair.voxel_ml)
    return ClassScores(key=scored.key, counts=counts, presence=where, values=values, penalised=penalised)


def _volume_errors(counts: Counts, where: Presence, voxel_ml: float) -> dict[str, float]:
    voxels = counts.n_prediction - counts.n_reference
    defined = where is not Presence.TRUE_NEGATIVE
    return {
        "VolumeError": voxels * voxel_ml if defined else _NAN,
        "AbsoluteVolumeError": abs(voxels) * voxel_ml if defined else _NAN,
        "RelativeVolumeError": voxels / counts.n_reference if counts.n_reference else _NAN,
    }


def score_nnunet(pair: LabelPair, classes: tuple[ScoredClass, ...], tolerances: Tolerances) -> tuple[UnitScores, ...]:
    """One unit per case: Dice and IoU, NaN where a class is absent from both."""
    del tolerances
    return (_whole(pair, tuple(_overlap_class(pair, scored) for scored in classes)),)


def _overlap_class(pair: LabelPair, scored: ScoredClass) -> ClassScores:
    counts = pair.pairs.of(scored.values)
    return ClassScores(
        key=scored.key,
        counts=counts,
        presence=presence(counts),
        values={"Dice": counts.dice, "IoU": counts.iou},
    )


def score_transunet(
    pair: LabelPair, classes: tuple[ScoredClass, ...], tolerances: Tolerances
) -> tuple[UnitScores, ...]:
    """One unit per volume: Dice, and HD95 in voxels that is 0 for a missed class."""
    del tolerances
    return (_whole(pair, tuple(_transunet_class(pair, scored) for scored in classes)),)


def _transunet_class(pair: LabelPair, scored: ScoredClass) -> ClassScores:
    counts = pair.pairs.of(scored.values)
    where = presence(counts)
    dice, hd95 = 0.0, 0.0
    if where is Presence.BOTH:
        dice = counts.dice
        hd95 = pair.surfaces(scored, elements="voxels", in_voxels=True).pooled_percentile_mm(95)
    elif where is Presence.TRUE_NEGATIVE:
        dice = 1.0
    return ClassScores(key=scored.key, counts=counts, presence=where, values={"Dice": dice, "HD95": hd95})


def score_segmote(pair: LabelPair, classes: tuple[ScoredClass, ...], tolerances: Tolerances) -> tuple[UnitScores, ...]:
    """One unit per image that has a class: Dice and IoU of the classes present in its reference."""
    del tolerances
    units: list[UnitScores] = []
    for index, image in _images(pair):
        scores = tuple(_segmote_class(image, scored) for scored in classes)
        if any(item.counts.n_reference for item in scores):
            units.append(UnitScores(case_id=pair.case_id, slice_index=index, classes=scores))
    return tuple(units)


def _segmote_class(image: LabelPair, scored: ScoredClass) -> ClassScores:
    counts = image.pairs.of(scored.values)
    present = counts.n_reference > 0
    return ClassScores(
        key=scored.key,
        counts=counts,
        presence=presence(counts),
        values={"Dice": counts.dice if present else _NAN, "IoU": counts.iou if present else _NAN},
    )


def _images(pair: LabelPair) -> Iterator[tuple[int | None, LabelPair]]:
    """The pair itself when it is 2-D, else its slices along the coarsest axis (the last of equals)."""
    shape = pair.reference.shape
    if 1 in shape:
        yield None, pair
        return
    axis = max(range(3), key=lambda n: (round(pair.spacing_mm[n], 6), n))
    for index in range(shape[axis]):
        cut = slice(index, index + 1)
        box = (slice(None),) * axis + (cut,)
        yield (
            index,
            LabelPair(
                case_id=pair.case_id,
                reference=pair.reference[box],
                prediction=pair.prediction[box],
                spacing_mm=pair.spacing_mm,
                ignore=pair.ignore,
            ),
        )


def _whole(pair: LabelPair, classes: tuple[ClassScores, ...]) -> UnitScores:
    return UnitScores(case_id=pair.case_id, slice_index=None, classes=classes)
