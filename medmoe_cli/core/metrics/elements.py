"""How much surface (3-D) or contour (2-D) a 2x2x2 (2x2) neighbourhood of voxels holds, from geometry.

A surface element sits where eight voxels meet and not all of them are inside the mask. Its area is that of the
marching-cubes polygons whose vertices halve the neighbourhood's edges between inside and outside (Lorensen and Cline,
SIGGRAPH 1987). Polygons that are not flat can be cut into triangles in several ways, which have different areas. The
rules below choose what the original table has, so that areas equal those of DeepMind's `surface-distance`:

- ambiguous faces separate the corners of the smaller side (with four against four: the inside);
- a polygon is cut into as few planes as can be;
- two arrangements stay undecided by this, and follow the original table's accidents (`_side_cut_off`,
  `_preferred_cut`).

Corners are (i, j, k) with 0 and 1 along the array's axes. The code of a neighbourhood has the bit
2 ** (7 - (4 i + 2 j + k)) for each inside corner (2-D: 2 ** (3 - (2 i + j))).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import product
from math import gcd

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int, int]
Vector = tuple[int, int, int]

_CORNERS: tuple[Corner, ...] = tuple((i, j, k) for i, j, k in product((0, 1), repeat=3))
_RING = ((0, 0), (1, 0), (1, 1), (0, 1))
# Cross products of vectors between doubled midpoints are eight times the triangle's area vector.
_AREA_SCALE = 8


def element_sizes(spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Area in mm2 (2-D: length in mm) of the surface in a neighbourhood, by its code: (256,) or (16,), read-only."""
    return _sizes(tuple(float(side) for side in spacing_mm))


@lru_cache(maxsize=64)
def _sizes(spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    if len(spacing_mm) == 2:
        sizes = _contour_lengths(*spacing_mm)
    else:
        x, y, z = spacing_mm
        sides = np.array((y * z, x * z, x * y))
        sizes = np.zeros(256)
        for code, triangles in enumerate(_area_vectors()):
            for triangle in triangles:
                sizes[code] += np.sqrt((((np.array(triangle) / _AREA_SCALE) * sides) ** 2).sum())
    sizes.flags.writeable = False
    return sizes


def _contour_lengths(height: float, width: float) -> NDArray[np.float64]:
    corner = 0.5 * (height**2 + width**2) ** 0.5
    sizes = np.zeros(16)
    for code in range(1, 15):
        top, bottom = code >> 2, code & 3
        if code.bit_count() != 2:
            sizes[code] = corner
        elif top == bottom:
            sizes[code] = height
        elif top in (0, 3):
            sizes[code] = width
        else:
            sizes[code] = 2 * corner
    return sizes


@cache
def _area_vectors() -> tuple[tuple[Vector, ...], ...]:
    """By code, the area vectors of the neighbourhood's triangles, times `_AREA_SCALE`."""
    table = []
    for code in range(256):
        inside = frozenset(corner for n, corner in enumerate(_CORNERS) if code >> (7 - n) & 1)
        side = _side_cut_off(inside)
        table.append(tuple(vector for polygon in _polygons(side) for vector in _cut(polygon, side)))
    return tuple(table)


def _side_cut_off(inside: frozenset[Corner]) -> frozenset[Corner]:
    """The corners that ambiguous faces separate: the smaller side, the inside when both have four.

    Except for three corners in an L and a lone one: the other side then has a lone corner too, next to it, and the
    original table cuts off the one with an odd sum of coordinates, but never (1, 0, 0).
    """
    outside = frozenset(_CORNERS) - inside
    if len(inside) != 4:
        return inside if len(inside) < 4 else outside
    lone, other_lone = _lone(inside), _lone(outside)
    if len(lone) != 1:
        return inside
    wins = (sum(lone[0]) % 2 == 1 and lone[0] != (1, 0, 0)) or other_lone[0] == (1, 0, 0)
    return inside if wins else outside


def _lone(corners: frozenset[Corner]) -> list[Corner]:
    return [corner for corner in corners if not _neighbours(corner, corners)]


def _neighbours(corner: Corner, among: frozenset[Corner]) -> list[Corner]:
    return [other for other in sorted(among) if sum(a != b for a, b in zip(corner, other, strict=True)) == 1]


def _polygons(side: frozenset[Corner]) -> list[list[Vector]]:
    """Closed polygons around `side`; vertices are doubled midpoints of the edges that leave it."""
    links: dict[Vector, list[Vector]] = {}
    for axis, level in product(range(3), (0, 1)):
        ring = [_on_face(axis, level, pair) for pair in _RING]
        middles = [_sum(ring[n], ring[(n + 1) % 4]) for n in range(4)]
        crossings = [middles[n] for n in range(4) if (ring[n] in side) != (ring[(n + 1) % 4] in side)]
        if len(crossings) == 2:
            _link(links, crossings[0], crossings[1])
        elif crossings:
            for n in range(4):
                if ring[n] in side:
                    _link(links, middles[n - 1], middles[n])
    polygons = []
    while links:
        first = min(links)
        polygon, previous, current = [first], first, links[first][0]
        while current != first:
            polygon.append(current)
            ahead = links[current]
            previous, current = current, ahead[1] if ahead[0] == previous else ahead[0]
        for vertex in polygon:
            del links[vertex]
        polygons.append(polygon)
    return polygons


def _on_face(axis: int, level: int, pair: tuple[int, int]) -> Corner:
    a, b = pair
    return (level, a, b) if axis == 0 else (a, level, b) if axis == 1 else (a, b, level)


def _link(links: dict[Vector, list[Vector]], a: Vector, b: Vector) -> None:
    links.setdefault(a, []).append(b)
    links.setdefault(b, []).append(a)


def _cut(polygon: list[Vector], side: frozenset[Corner]) -> tuple[Vector, ...]:
    """The area vectors of the polygon's triangles, cut into as few planes as can be."""
    cuts = [
        tuple(_area_vector(polygon[a], polygon[b], polygon[c]) for a, b, c in triangles)
        for triangles in _triangulations(0, len(polygon) - 1)
    ]
    fewest = min(len(_planes(cut)) for cut in cuts)
    best = {frozenset(_planes(cut).items()): cut for cut in reversed(cuts) if len(_planes(cut)) == fewest}
    if len(best) == 1:
        return next(iter(best.values()))
    return next(cut for cut in best.values() if _preferred_cut(cut, side))


def _preferred_cut(cut: tuple[Vector, ...], side: frozenset[Corner]) -> bool:
    """Choose between the two mirrored cuts of the hexagon around a path of four corners that uses all three axes.

    Either cut has one large plane, normal to one of the cube's diagonals. Which one the original table has depends on
    the axis of the path's middle step and on its handedness; no simpler rule gives all twelve paths.
    """
    planes = _planes(cut)
    normal = max(planes, key=lambda plane: planes[plane])
    ends = [corner for corner in sorted(side) if len(_neighbours(corner, side)) == 1]
    path = [ends[0]]
    while len(path) < 4:
        path.append(next(corner for corner in _neighbours(path[-1], side) if corner not in path))
    steps = [_difference(path[n + 1], path[n]) for n in range(3)]
    axis = next(n for n in range(3) if steps[1][n])
    right_handed = _dot(steps[0], _cross(steps[1], steps[2])) > 0
    wanted = (
        normal[0] * normal[1] < 0,
        normal[0] * normal[1] > 0,
        normal[0] * normal[2] < 0,
    )[axis]
    return wanted == right_handed


def _planes(cut: tuple[Vector, ...]) -> dict[Vector, int]:
    """Area by plane normal (coprime integers, first non-zero one positive), in units that differ between normals."""
    planes: dict[Vector, int] = {}
    for vector in cut:
        divisor = gcd(*vector)
        sign = 1 if next(part for part in vector if part) > 0 else -1
        normal = (sign * vector[0] // divisor, sign * vector[1] // divisor, sign * vector[2] // divisor)
        planes[normal] = planes.get(normal, 0) + divisor
    return planes


def _triangulations(first: int, last: int) -> list[list[tuple[int, int, int]]]:
    """Every way to cut the convex polygon first..last into triangles of vertex numbers."""
    if last - first < 2:
        return [[]]
    return [
        [*left, *right, (first, apex, last)]
        for apex in range(first + 1, last)
        for left in _triangulations(first, apex)
        for right in _triangulations(apex, last)
    ]


def _area_vector(a: Vector, b: Vector, c: Vector) -> Vector:
    return _cross(_difference(b, a), _difference(c, a))


def _sum(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _difference(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a: Vector, b: Vector) -> int:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
