"""How good one mask of one slice is to learn from: five terms, and a score among its peers.

SegMoTE (section 3.6) names five terms, "clarity, contrast, entropy, foreground ratio, and connected regions", gives
no formula and no weights, and has experts look. Here each is measured on a slice's picture g in [0, 1] (the member's
own intensity rule; colour as its luminance; shrunk so that the long side is at most 512 pixels, as training sees it)
and a mask m. S is the mask's surroundings, its bounding box grown by a quarter of its longer side (at least 8 pixels):

    clarity      variance of the Laplacian of g over S (four neighbours, edges repeated): blurred pictures have less
    contrast     |mean of g in m - mean of g in S without m|: what the mask outlines can be told from what is around
    entropy      Shannon entropy of g's 64-bin histogram over S, divided by 6 bits: flat pictures have less
    foreground   pixels of m / pixels of the slice: a sliver at the end of an organ has less
    regions      connected regions of m (neighbours share an edge or a corner): fewer is better

Scales differ between CT, photographs and organs, so only ranks are compared, and only among peers: the masks of one
class of one member. A term's percentile is (rank - 1/2) / n in ascending order of goodness, ties sharing their mean
rank. The score is the mean of the five percentiles: within (0, 1), growing with each term, and free of the terms'
scales. Terms weigh the same because the paper does not weigh them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from medmoe_cli.core.imaging.components import bounding_box, component_sizes

TERM_NAMES = ("clarity", "contrast", "entropy", "foreground", "regions")
LONGEST_SIDE = 512
_SIGNS = np.array([1, 1, 1, 1, -1])
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, what 'grey' of a colour picture usually is
_BINS = 64
_MARGIN_SHARE, _MARGIN_PIXELS = 0.25, 8
FORMULA = (
    "score(m) = mean over five terms of (rank - 1/2) / n, the rank of m among the n masks of its class and member in "
    "ascending order of goodness, ties sharing their mean rank",
    "clarity: variance of the Laplacian of g over S",
    "contrast: |mean of g in m - mean of g in S without m|",
    f"entropy: Shannon entropy of g's {_BINS}-bin histogram over S / {np.log2(_BINS):g} bits",
    "foreground: pixels of m / pixels of the slice",
    "regions: connected regions of m, fewer is better",
    f"with g the slice as training sees it, in [0, 1], m the mask, and S its bounding box grown by {_MARGIN_SHARE:g} "
    f"of its longer side, at least {_MARGIN_PIXELS} pixels",
)
"""The score, for readers of a datasheet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """The five terms of one mask; all but `regions` are better when larger."""

    clarity: float
    contrast: float
    entropy: float
    foreground: float
    regions: int


def measure_mask(picture_HW: NDArray[np.float32], mask_HW: NDArray[np.bool_]) -> Terms:
    """The terms of a mask on its picture.

    Args:
        picture_HW: grey values in [0, 1].
        mask_HW: not empty.
    """
    box = bounding_box(mask_HW)
    if box is None:
        raise ValueError("an empty mask has no quality")
    around = _grown(box, mask_HW.shape)
    picture, mask = picture_HW[around], mask_HW[around]
    # One more pixel on each side, so that the Laplacian inside does not depend on where the picture was cut.
    wider, inner = _with_border(around, mask_HW.shape)
    laplacian = ndimage.laplace(picture_HW[wider].astype(np.float64), mode="nearest")[inner]
    outside = picture[~mask]
    # A mask that leaves nothing around it outlines nothing.
    contrast = abs(_mean(picture[mask]) - _mean(outside)) if outside.size else 0.0
    return Terms(
        clarity=float(laplacian.var()),
        contrast=contrast,
        entropy=_entropy(picture),
        foreground=int(mask.sum()) / mask_HW.size,
        regions=len(component_sizes(mask)),
    )


def percentiles(terms_N5: NDArray[Any]) -> NDArray[np.float64]:
    """Each term's percentile among a group of peers, in (0, 1), larger is better; terms as in `TERM_NAMES`."""
    if not len(terms_N5):
        return np.zeros((0, len(TERM_NAMES)))
    ranks = stats.rankdata(np.asarray(terms_N5, np.float64) * _SIGNS, method="average", axis=0)
    return np.asarray((ranks - 0.5) / len(terms_N5), np.float64)


def scores(terms_N5: NDArray[Any]) -> NDArray[np.float64]:
    """The score of each of a group of peers: the mean of its percentiles."""
    return np.asarray(percentiles(terms_N5).mean(axis=1), np.float64)


def grey(picture_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """One picture of several channels: the luminance of three, else their mean."""
    if len(picture_CHW) == len(_LUMINANCE):
        return np.asarray(np.tensordot(_LUMINANCE, picture_CHW, axes=1), np.float32)
    return np.asarray(picture_CHW.mean(axis=0), np.float32)


def _grown(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    longer = max(part.stop - part.start for part in box)
    margin = max(_MARGIN_PIXELS, round(_MARGIN_SHARE * longer))
    return tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin)) for part, size in zip(box, shape, strict=True)
    )


def _with_border(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """A box with a pixel more on each side where there is one, and where the box lies in it."""
    wider = tuple(
        slice(max(0, part.start - 1), min(size, part.stop + 1)) for part, size in zip(box, shape, strict=True)
    )
    inner = tuple(
        slice(part.start - outer.start, part.stop - outer.start) for part, outer in zip(box, wider, strict=True)
    )
    return wider, inner


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.mean(dtype=np.float64))


def _entropy(picture: NDArray[np.float32]) -> float:
    bins = np.clip((picture.ravel() * _BINS).astype(np.int64), 0, _BINS - 1)
    shares = np.bincount(bins, minlength=_BINS) / bins.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum() / np.log2(_BINS)) + 0.0
