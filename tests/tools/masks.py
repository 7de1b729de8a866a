"""Pairs of masks and label maps to measure, drawn from a seed or by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Mask = NDArray[np.bool_]

SPACINGS = ((1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (2.0, 0.5, 1.25), (0.9, 3.3, 0.4))
"""Isotropic, thick slices, and two without any equal sides; 2-D takes the last two of each."""


def blobs(seed: int, shape: tuple[int, ...], *, share: float = 0.2, difference: float = 0.3) -> tuple[Mask, Mask]:
    """Two smooth masks that resemble each other as a prediction does its reference."""
    random = np.random.default_rng(seed)
    base = gaussian_filter(random.normal(size=shape), 1.5)
    other = base + difference * base.std() * gaussian_filter(random.normal(size=shape), 1.0) * 3
    return base > np.quantile(base, 1 - share), other > np.quantile(other, 1 - share)


def label_maps(seed: int, shape: tuple[int, ...], *, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two label maps of `classes` classes; some may be absent from either."""
    random = np.random.default_rng(seed)
    fields = [gaussian_filter(random.normal(size=shape), 1.2) for _ in range(classes + 1)]
    moved = [field + 0.3 * field.std() * random.normal(size=shape) for field in fields]
    return np.argmax(fields, axis=0).astype(np.uint8), np.argmax(moved, axis=0).astype(np.uint8)


@st.composite
def mask_pairs(draw: st.DrawFn, *, dims: int = 3, empty: bool = True) -> tuple[Mask, Mask]:
    """Two small masks of one shape, dense or sparse, possibly empty, touching the borders."""
    shape = draw(st.tuples(*[st.integers(2, 7)] * dims))
    kind = draw(st.sampled_from(["noise", "flips", "blobs"]))
    if kind == "blobs":
        seed = draw(st.integers(0, 2**16))
        first, second = blobs(seed, shape, share=draw(st.sampled_from([0.1, 0.3, 0.6])))
    else:
        first = draw(arrays(bool, shape, elements=st.booleans(), fill=st.booleans()))
        flips = draw(arrays(bool, shape, elements=st.booleans(), fill=st.just(False)))
        second = flips if kind == "noise" else first ^ flips
    if not empty:
        first, second = first.copy(), second.copy()
        first[(0,) * dims] = second[(-1,) * dims] = True
    return first, second


def spacings(dims: int = 3) -> st.SearchStrategy[tuple[float, ...]]:
    """Voxel sizes in mm: the fixed ones and any between 0.25 and 6 mm."""
    free = st.tuples(*[st.floats(0.25, 6.0)] * dims)
    return st.one_of(st.sampled_from([spacing[-dims:] for spacing in SPACINGS]), free)
