"""The sizes of surface elements, against the published table and against shapes whose area is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from surface_distance import lookup_tables

from medmoe_cli.core.metrics.elements import element_sizes
from medmoe_cli.core.metrics.surface import surface_distances
from tests.tools.masks import SPACINGS

RANDOM_SPACINGS = [tuple(row) for row in np.random.default_rng(0).uniform(0.2, 6.0, (12, 3)).tolist()]


@pytest.mark.parametrize("spacing_mm", [*SPACINGS, *RANDOM_SPACINGS])
def test_all_256_areas_are_surface_distances(spacing_mm: Sequence[float]) -> None:
    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    np.testing.assert_allclose(element_sizes(spacing_mm), theirs, rtol=1e-14, atol=0)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.7, 5.0), (2.5, 0.4)])
def test_all_16_lengths_are_surface_distances(spacing_mm: Sequence[float]) -> None:
    theirs = lookup_tables.create_table_neighbour_code_to_contour_length(spacing_mm)
    np.testing.assert_allclose(element_sizes(spacing_mm), theirs, rtol=1e-14, atol=0)


def test_only_uniform_neighbourhoods_have_no_surface() -> None:
    assert np.flatnonzero(element_sizes((1, 1, 1)) == 0).tolist() == [0, 255]
    assert np.flatnonzero(element_sizes((1, 1)) == 0).tolist() == [0, 15]


def test_area_of_a_box_with_cut_edges_and_corners() -> None:
    """4x5x6 voxels: faces shrink by one voxel, edges are cut at 45 degrees, corners are triangles."""
    mask = np.zeros((8, 9, 10), bool)
    mask[2:6, 2:7, 2:8] = True
    a, b, c = 3, 4, 5
    faces = 2 * (a * b + b * c + a * c)
    edges = 4 * (a + b + c) * np.sqrt(2) / 2
    corners = 8 * np.sqrt(3) / 8
    found = surface_distances(mask, mask, (1, 1, 1)).reference_sizes.sum()
    assert found == pytest.approx(faces + edges + corners, rel=1e-12)


def test_area_of_a_ball_tends_to_the_spheres_on_anisotropic_voxels() -> None:
    spacing = np.array((0.5, 0.8, 1.25))
    radius = 12.0
    axes = [np.arange(-radius - 2, radius + 2, side) for side in spacing]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    ball = x**2 + y**2 + z**2 < radius**2
    area = surface_distances(ball, ball, spacing).reference_sizes.sum()
    # Surfaces through edge midpoints of a binary mask overestimate a smooth one, by some 8 % on cubic voxels.
    assert 1.0 < area / (4 * np.pi * radius**2) < 1.15
