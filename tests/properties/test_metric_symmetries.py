"""What must hold for any pair of masks: swapping, moving and scaling do what they do to a ruler."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.metrics.overlap import count_pairs
from medmoe_cli.core.metrics.surface import Elements, surface_distances
from tests.tools.masks import mask_pairs, spacings

Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]
ELEMENTS = st.sampled_from(["marching-cubes", "voxels"])


@settings(max_examples=40)
@given(pair=mask_pairs(), spacing_mm=spacings(), elements=ELEMENTS)
def test_symmetry(pair: Pair, spacing_mm: tuple[float, ...], elements: Elements) -> None:
    forth = surface_distances(*pair, spacing_mm, elements=elements)
    back = surface_distances(pair[1], pair[0], spacing_mm, elements=elements)
    assert forth.hausdorff_mm == pytest.approx(back.hausdorff_mm, nan_ok=True)
    assert forth.robust_hausdorff_mm(95) == pytest.approx(back.robust_hausdorff_mm(95), nan_ok=True)
    assert forth.average_symmetric_mm == pytest.approx(back.average_symmetric_mm, nan_ok=True)
    assert forth.surface_dice(1.0) == pytest.approx(back.surface_dice(1.0), nan_ok=True)
    assert forth.average_mm == pytest.approx(back.average_mm[::-1], nan_ok=True)


@settings(max_examples=40)
@given(pair=mask_pairs(empty=False), spacing_mm=spacings(), shift=st.tuples(*[st.integers(0, 4)] * 3))
def test_translation(pair: Pair, spacing_mm: tuple[float, ...], shift: tuple[int, ...]) -> None:
    here = surface_distances(*pair, spacing_mm)
    room = [(n, 4 - n) for n in shift]
    there = surface_distances(np.pad(pair[0], room), np.pad(pair[1], room), spacing_mm)
    # Distances come from the difference of two places: to the last bit, unless two places are equally near.
    np.testing.assert_allclose(here.reference_mm, there.reference_mm, rtol=1e-12)
    np.testing.assert_array_equal(here.reference_sizes.sum(), there.reference_sizes.sum())


@settings(max_examples=40)
@given(pair=mask_pairs(empty=False), spacing_mm=spacings(), factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_scale_by_spacing(pair: Pair, spacing_mm: tuple[float, ...], factor: float) -> None:
    small = surface_distances(*pair, spacing_mm)
    large = surface_distances(*pair, [side * factor for side in spacing_mm])
    assert large.hausdorff_mm == pytest.approx(small.hausdorff_mm * factor)
    assert large.average_symmetric_mm == pytest.approx(small.average_symmetric_mm * factor)
    assert large.surface_dice(1.5 * factor) == pytest.approx(small.surface_dice(1.5))
    assert large.reference_sizes.sum() == pytest.approx(small.reference_sizes.sum() * factor**2)


@settings(max_examples=30)
@given(pair=mask_pairs(empty=False), spacing_mm=spacings(), elements=ELEMENTS)
def test_identity(pair: Pair, spacing_mm: tuple[float, ...], elements: Elements) -> None:
    same = surface_distances(pair[0], pair[0].copy(), spacing_mm, elements=elements)
    assert same.hausdorff_mm == same.robust_hausdorff_mm(95) == same.average_symmetric_mm == 0
    assert same.surface_dice(1e-12) == 1
    counts = count_pairs(pair[0].astype(np.uint8), pair[0].astype(np.uint8)).of((1,))
    assert counts.dice == counts.iou == 1


@settings(max_examples=40)
@given(pair=mask_pairs(empty=False), spacing_mm=spacings(), axes=st.permutations([0, 1, 2]), flip=st.integers(0, 2))
def test_axes_can_be_named_and_run_as_one_likes(
    pair: Pair, spacing_mm: tuple[float, ...], axes: list[int], flip: int
) -> None:
    turned = [np.flip(mask, flip).transpose(axes) for mask in pair]
    there = surface_distances(turned[0], turned[1], [spacing_mm[axis] for axis in axes])
    here = surface_distances(*pair, spacing_mm)
    assert there.hausdorff_mm == pytest.approx(here.hausdorff_mm)
    assert there.average_symmetric_mm == pytest.approx(here.average_symmetric_mm)
    assert there.reference_sizes.sum() == pytest.approx(here.reference_sizes.sum())
    # Between two distances, so that the rounding of one of them decides nothing.
    tolerance_mm = here.hausdorff_mm / 2 + 1e-4
    if np.abs(np.concatenate((here.reference_mm, here.prediction_mm)) - tolerance_mm).min() > 1e-9:
        assert there.surface_dice(tolerance_mm) == pytest.approx(here.surface_dice(tolerance_mm))


@settings(max_examples=40)
@given(pair=mask_pairs(empty=False), spacing_mm=spacings())
def test_order_of_the_metrics(pair: Pair, spacing_mm: tuple[float, ...]) -> None:
    found = surface_distances(*pair, spacing_mm)
    assert 0 <= found.average_symmetric_mm <= found.hausdorff_mm
    assert found.robust_hausdorff_mm(50) <= found.robust_hausdorff_mm(95) <= found.hausdorff_mm
    nsd = [found.surface_dice(tolerance) for tolerance in (0.1, 1.0, 3.0, found.hausdorff_mm)]
    assert nsd == sorted(nsd)
    assert nsd[-1] == 1
