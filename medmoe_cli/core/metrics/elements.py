"""How much surface (3-D) or contour (2-D) a 2x2x2 (2x2) neighbourhood of voxels holds, from geometry.

A surface element sits where eight voxels meet and not all of them are inside the mask. Its area is that of the
marching-cubes polygons whose vertices halve the neighbourhood's edges between inside and outside (Lorensen and Cline,
SIGGRAPH 1987). Two rules settle what those leave open, and give the areas of the published table that DeepMind's
`surface-distance` uses, for every spacing:

- ambiguous faces separate the corners of the smaller side (with four against four: the inside);
- a polygon that is not flat is cut into as few planes as can be. Cuts that are equal in this are mirror images, whose
  areas are the same on a rectangular grid.

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
        side = inside if len(inside) <= 4 else frozenset(_CORNERS) - inside
        table.append(tuple(vector for polygon in _polygons(side) for vector in _cut(polygon)))
    return tuple(table)


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


def _cut(polygon: list[Vector]) -> tuple[Vector, ...]:
    """The area vectors of the polygon's triangles, cut into as few planes as can be."""
    cuts = [
        tuple(_area_vector(polygon[a], polygon[b], polygon[c]) for a, b, c in triangles)
        for triangles in _triangulations(0, len(polygon) - 1)
    ]
    return min(cuts, key=lambda cut: len({_plane(vector) for vector in cut}))


def _plane(normal: Vector) -> Vector:
    """The plane's normal in coprime integers, the first non-zero one positive."""
    divisor = gcd(*normal)
    sign = 1 if next(part for part in normal if part) > 0 else -1
    return sign * normal[0] // divisor, sign * normal[1] // divisor, sign * normal[2] // divisor


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


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
