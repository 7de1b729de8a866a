from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.imaging.components import bounding_box, component_sizes, keep_largest


def flooded(mask: NDArray[np.bool_]) -> list[set[tuple[int, ...]]]:
    """Components by walking from voxel to voxel, largest first."""
    left = {tuple(int(place) for place in voxel) for voxel in np.argwhere(mask)}
    found = []
    while left:
        start = left.pop()
        component, border = {start}, [start]
        while border:
            voxel = border.pop()
            for step in itertools.product((-1, 0, 1), repeat=mask.ndim):
                neighbour = tuple(place + move for place, move in zip(voxel, step, strict=True))
                if neighbour in left:
                    left.remove(neighbour)
                    component.add(neighbour)
                    border.append(neighbour)
        found.append(component)
    return sorted(found, key=len, reverse=True)


@given(
    seed=st.integers(0, 10_000),
    share=st.floats(0.02, 0.3),
    shape=st.sampled_from([(6, 7, 5), (9, 8), (12, 1, 4)]),
)
@settings(max_examples=40)
def test_components_are_those_of_a_walk_over_corners(seed: int, share: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < share, rng.integers(1, 3, shape), 0).astype(np.uint8)
    walked = flooded(labels == 1)
    assert component_sizes(labels == 1).tolist() == [len(component) for component in walked]
    before = labels.copy()
    removed = keep_largest(labels, 1)
    kept = {tuple(int(place) for place in voxel) for voxel in np.argwhere(labels == 1)}
    if walked:
        assert kept in walked
        assert len(kept) == len(walked[0])
    assert removed == int((before == 1).sum()) - len(kept)
    np.testing.assert_array_equal(labels == 2, before == 2)
    assert not labels[(before == 1) & (labels != 1)].any()
    assert keep_largest(labels, 1) == 0


def test_a_mask_lies_in_its_box_and_an_empty_one_in_none() -> None:
    mask = np.zeros((5, 6, 7), bool)
    assert bounding_box(mask) is None
    assert component_sizes(mask).size == 0
    mask[1, 2:4, 6] = True
    assert bounding_box(mask) == (slice(1, 2), slice(2, 4), slice(6, 7))
