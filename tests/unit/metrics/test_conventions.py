"""What each convention makes of the same masks, against independent re-computations and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.metrics.aggregate import aggregate
from medmoe_cli.core.metrics.classes import ScoredClass, Tolerances
from medmoe_cli.core.metrics.conventions import CONVENTIONS, convention
from medmoe_cli.core.metrics.policy import Presence
from medmoe_cli.core.metrics.scores import LabelPair, UnitScores
from tests.tools.masks import label_maps

CLASSES = tuple(ScoredClass(name=name, values=(value,)) for value, name in enumerate(("liver", "spleen", "node"), 1))
SPACING = (1.0, 2.0, 3.0)


def _pair(reference: NDArray[np.integer], prediction: NDArray[np.integer], case_id: str = "a") -> LabelPair:
    return LabelPair(case_id=case_id, reference=reference, prediction=prediction, spacing_mm=SPACING)


def _score(name: str, *pairs: LabelPair) -> tuple[UnitScores, ...]:
    return tuple(unit for pair in pairs for unit in convention(name).score(pair, CLASSES, Tolerances()))


def _both_absent_missed_and_false() -> LabelPair:
    """liver in both, spleen missed, node only predicted."""
    reference, prediction = np.zeros((8, 6, 5), np.uint8), np.zeros((8, 6, 5), np.uint8)
    reference[1:4, 1:4, 1:3] = prediction[2:5, 1:4, 1:3] = 1
    reference[5:7, 1:3, 2:4] = 2
    prediction[5:7, 4:6, 3:5] = 3
    return _pair(reference, prediction)


def test_medmoe_policy_for_empty_masks() -> None:
    (unit,) = _score("medmoe", _both_absent_missed_and_false())
    liver, spleen, node = unit.classes
    assert [item.presence for item in unit.classes] == [Presence.BOTH, Presence.MISSED, Presence.FALSE_POSITIVE]
    assert not liver.penalised
    diagonal = math.hypot(8 * 1, 6 * 2, 5 * 3)
    for item in (spleen, node):
        assert item.values["Dice"] == item.values["IoU"] == item.values["NSD"] == 0
        for name in ("HD95", "HD", "ASSD"):
            assert math.isnan(item.values[name])
            assert item.penalised[name] == pytest.approx(diagonal)
    assert spleen.values["VolumeError"] == pytest.approx(-8 * 6 / 1000)
    assert spleen.values["RelativeVolumeError"] == -1
    assert node.values["VolumeError"] == pytest.approx(8 * 6 / 1000)
    assert math.isnan(node.values["RelativeVolumeError"])


def test_medmoe_does_not_count_what_is_in_neither_mask() -> None:
    empty = np.zeros((4, 4, 4), np.uint8)
    (unit,) = _score("medmoe", _pair(empty, empty))
    for item in unit.classes:
        assert item.presence is Presence.TRUE_NEGATIVE
        assert all(math.isnan(value) for value in item.values.values())
        assert not item.penalised


def test_medmoe_aggregate_counts_and_penalises() -> None:
    good = np.zeros((8, 6, 5), np.uint8)
    good[1:4, 1:4, 1:3] = 1
    units = _score("medmoe", _both_absent_missed_and_false(), _pair(good, good, "b"))
    found = aggregate(units, CLASSES, convention("medmoe"), patients={})
    liver, spleen, _ = found.classes
    assert (liver.num_true_negative, liver.num_missed, liver.num_false_positive, liver.num_units) == (0, 0, 0, 2)
    assert (spleen.num_true_negative, spleen.num_missed) == (1, 1)
    assert spleen.statistics["Dice"].n_used == 1
    assert spleen.statistics["Dice"].n_total == 2
    assert spleen.statistics["HD95"].n_used == 0
    assert math.isnan(spleen.statistics["HD95"].mean)
    assert spleen.statistics["HD95"].penalised_mean == pytest.approx(math.hypot(8, 12, 15))
    assert spleen.statistics["Dice"].penalised_mean is None
    one = units[0].classes[0].values["Dice"]
    assert liver.statistics["Dice"].mean == pytest.approx((one + 1) / 2)
    assert liver.statistics["Dice"].std == pytest.approx(abs(one - 1) / math.sqrt(2))
    assert found.overall["Dice"].mean == pytest.approx(((one + 1) / 2 + 0 + 0) / 3)
    assert (found.overall["Dice"].n_used, found.overall["Dice"].n_total) == (4, 6)


def _nnunet(reference: NDArray[np.integer], prediction: NDArray[np.integer], value: int) -> dict[str, float]:
    """Dice and IoU as nnU-Net's evaluator defines them, mask by mask."""
    left, right = reference == value, prediction == value
    tp, fp, fn = int((left & right).sum()), int((~left & right).sum()), int((left & ~right).sum())
    if tp + fp + fn == 0:
        return {"Dice": math.nan, "IoU": math.nan, "TP": 0, "n_pred": 0, "n_ref": 0}
    return {
        "Dice": 2 * tp / (2 * tp + fp + fn),
        "IoU": tp / (tp + fp + fn),
        "TP": tp,
        "n_pred": fp + tp,
        "n_ref": fn + tp,
    }


def test_nnunet_numbers() -> None:
    pairs = [_pair(*label_maps(seed, (9, 8, 6), classes=3), case_id=str(seed)) for seed in range(6)]
    units = _score("nnunet", *pairs)
    found = aggregate(units, CLASSES, convention("nnunet"), patients={})
    means = []
    for item, scored in zip(found.classes, CLASSES, strict=True):
        rows = [_nnunet(pair.reference, pair.prediction, scored.values[0]) for pair in pairs]
        means.append(np.nanmean([row["Dice"] for row in rows]))
        assert item.statistics["Dice"].mean == pytest.approx(means[-1], rel=1e-14)
        assert item.statistics["IoU"].mean == pytest.approx(np.nanmean([row["IoU"] for row in rows]), rel=1e-14)
        assert item.counts.tp == pytest.approx(np.mean([row["TP"] for row in rows]))
        assert item.counts.n_prediction == pytest.approx(np.mean([row["n_pred"] for row in rows]))
        assert item.counts.n_reference == pytest.approx(np.mean([row["n_ref"] for row in rows]))
    assert found.overall["Dice"].mean == pytest.approx(np.mean(means), rel=1e-14)


def test_nnunet_foreground_mean_is_undefined_when_a_class_occurs_nowhere() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    units = _score("nnunet", _pair(labels, labels), _pair(labels, labels, "b"))
    found = aggregate(units, CLASSES, convention("nnunet"), patients={})
    assert math.isnan(found.overall["Dice"].mean)
    assert found.overall["Dice"].interval is None
    assert found.classes[0].statistics["Dice"].mean == 1


def _medpy_hd95(reference: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float:
    """The published definition: distances of border voxels to the other border, both directions in one percentile."""
    borders = [mask & ~binary_erosion(mask) for mask in (reference, prediction)]
    fields = [distance_transform_edt(~border) for border in borders]
    return float(np.percentile(np.hstack((fields[1][borders[0]], fields[0][borders[1]])), 95))


def test_transunet_numbers_are_in_voxels() -> None:
    for seed in range(8):
        pair = _pair(*label_maps(seed, (10, 9, 8), classes=3))
        (unit,) = _score("transunet", pair)
        for item, scored in zip(unit.classes, CLASSES, strict=True):
            left, right = pair.reference == scored.values[0], pair.prediction == scored.values[0]
            assert item.values["Dice"] == pytest.approx(2 * (left & right).sum() / (left.sum() + right.sum()))
            assert item.values["HD95"] == pytest.approx(_medpy_hd95(left, right), abs=1e-9)


def test_transunet_rewards_a_miss() -> None:
    (unit,) = _score("transunet", _both_absent_missed_and_false())
    assert [(item.values["Dice"], item.values["HD95"]) for item in unit.classes[1:]] == [(0, 0), (0, 0)]
    empty = np.zeros((4, 4, 4), np.uint8)
    (unit,) = _score("transunet", _pair(empty, empty))
    assert {(item.values["Dice"], item.values["HD95"]) for item in unit.classes} == {(1, 0)}


def test_segmote_averages_each_image_over_its_classes_then_images() -> None:
    """Slices along the third axis, the coarsest; only classes of the slice's reference count."""
    reference, prediction = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    reference[:2, :2, 0] = prediction[:2, :2, 0] = 1
    reference[2:, 2:, 0] = 2
    reference[:2, :, 1] = 2
    prediction[:2, :2, 1] = 2
    prediction[2:, :, 1] = 3
    prediction[:, :, 2] = 1
    units = _score("segmote", _pair(reference, prediction))
    assert [unit.slice_index for unit in units] == [0, 1]
    found = aggregate(units, CLASSES, convention("segmote"), patients={})
    first, second = (1 + 0) / 2, 2 * 4 / (8 + 4)
    assert found.overall["Dice"].mean == pytest.approx((first + second) / 2)
    assert found.classes[1].statistics["Dice"].mean == pytest.approx((0 + second) / 2)
    assert found.classes[2].statistics["Dice"].n_used == 0


def test_segmote_takes_a_picture_as_one_image() -> None:
    reference = np.zeros((6, 5, 1), np.uint8)
    reference[1:3, 1:4] = 1
    units = _score("segmote", _pair(reference, reference))
    assert [unit.slice_index for unit in units] == [None]


def test_pictures_have_contours_and_volumes_have_surfaces() -> None:
    """A square moved by one pixel: as a picture, distances ignore the axis of length one."""
    reference, prediction = np.zeros((9, 9, 1), np.uint8), np.zeros((9, 9, 1), np.uint8)
    reference[2:5, 2:5], prediction[3:6, 2:5] = 1, 1
    (unit,) = _score("medmoe", _pair(reference, prediction))
    assert unit.classes[0].values["HD"] == 1
    assert unit.classes[1].presence is Presence.TRUE_NEGATIVE


def test_a_flat_organ_in_a_volume_is_no_picture() -> None:
    flat = np.zeros((9, 9, 5), np.uint8)
    flat[2:5, 2:5, 2] = 1
    other = np.zeros((9, 9, 5), np.uint8)
    other[2:5, 2:5, 3] = 1
    (unit,) = _score("medmoe", _pair(flat, other))
    assert unit.classes[0].values["HD"] == SPACING[2]


def test_regions_and_the_ignored_value() -> None:
    reference = np.array([1, 2, 2, 9, 9, 0]).reshape(6, 1, 1).repeat(3, 1).repeat(3, 2)
    prediction = np.array([2, 1, 0, 1, 1, 0]).reshape(6, 1, 1).repeat(3, 1).repeat(3, 2)
    whole = ScoredClass(name="whole", values=(1, 2))
    pair = LabelPair(case_id="a", reference=reference, prediction=prediction, spacing_mm=(1.0, 1.0, 1.0), ignore=9)
    (unit,) = convention("medmoe").score(pair, (whole,), Tolerances())
    counts = unit.classes[0].counts
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (18, 0, 9, 9)
    assert unit.classes[0].values["HD"] == 1
    assert whole.key == "(1, 2)"


def test_tolerances_by_class() -> None:
    reference, prediction = np.zeros((9, 9, 5), np.uint8), np.zeros((9, 9, 5), np.uint8)
    reference[2:6, 2:6, 1:4], prediction[4:8, 2:6, 1:4] = 1, 1
    pair = _pair(reference, prediction)
    strict, lenient = (
        convention("medmoe").score(pair, CLASSES, Tolerances(by_name_mm={"liver": width}))[0].classes[0].values["NSD"]
        for width in (0.5, 2.0)
    )
    assert strict < lenient == 1


def test_an_unknown_convention_is_suggested_away() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nnunet'"):
        convention("nnunett")
    assert list(CONVENTIONS) == ["medmoe", "nnunet", "transunet", "segmote"]


def test_memory_order_changes_nothing() -> None:
    reference, prediction = label_maps(4, (11, 9, 7), classes=3)
    plain = _score("medmoe", _pair(reference, prediction))
    turned = _score("medmoe", _pair(np.asfortranarray(reference), np.asfortranarray(prediction)))
    mixed = _score("medmoe", _pair(reference, np.asfortranarray(prediction)))
    assert plain == turned == mixed
