"""Prompts simulated from a reference mask, the same for training, `--prompts-from` and evaluation.

Masks are boolean arrays (H, W) or (D, H, W). Everything random is drawn from the generator it is given; without a
generator the answer is deterministic. An empty mask gives no prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medmoe_cli.core.nn.prompts.query import Click, QueryPrompt
from medmoe_cli.core.nn.segmenter import PromptKind

MASK_LOGIT = 8.0  # sigmoid(8) = 0.9997: a certain mask prompt


def simulate(
    kind: PromptKind,
    mask: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    class_index: int = -1,
    jitter: float = 0.1,
    mask_size: tuple[int, ...] | None = None,
) -> QueryPrompt:
    """First prompt of a query.

    Args:
        kind: 'point', 'box', 'mask', 'text' or 'none'.
        mask: the reference, (H, W) or (D, H, W).
        rng: draws the point and the box's jitter; None for the central point and the tight box.
        class_index: the class, used by 'text' only.
        jitter: largest move of a box edge, as a fraction of the box's side.
        mask_size: the decoder's mask grid, needed for 'mask'.
    """
    reference = np.asarray(mask, bool)
    if kind == "text":
        return QueryPrompt(class_index=class_index)
    if kind == "none" or not reference.any():
        return QueryPrompt()
    if kind == "point":
        return QueryPrompt().with_click(central_point(reference) if rng is None else random_point(reference, rng=rng))
    if kind == "box":
        return QueryPrompt(box=tight_box(reference) if rng is None else jittered_box(reference, rng=rng, jitter=jitter))
    if mask_size is None:
        raise ValueError("a mask prompt needs the decoder's mask_size")
    return QueryPrompt(mask=mask_prompt(reference, mask_size))


def random_point(mask: ArrayLike, *, rng: np.random.Generator) -> Click | None:
    """A foreground pixel, all equally likely."""
    inside = np.flatnonzero(np.asarray(mask, bool))
    if not inside.size:
        return None
    return _click(np.unravel_index(int(rng.choice(inside)), np.shape(mask)), foreground=True)


def central_point(mask: ArrayLike) -> Click | None:
    """The foreground pixel farthest from the background; outside the image counts as background."""
    region = np.asarray(mask, bool)
    bounds = _bounds(region)
    if bounds is None:
        return None
    return _click(_deepest(region[bounds], bounds), foreground=True)


def correction_click(predicted: ArrayLike, reference: ArrayLike, *, valid: ArrayLike | None = None) -> Click | None:
    """Centre of the largest connected region that is wrong: 'inside' where it was missed, 'outside' where too much.

    Args:
        predicted: bool mask.
        reference: bool mask of the same shape.
        valid: False on padding, where nobody would click.

    Returns:
        None when prediction and reference agree.
    """
    found, wanted = np.asarray(predicted, bool), np.asarray(reference, bool)
    if found.shape != wanted.shape:
        raise ValueError(f"prediction {found.shape} and reference {wanted.shape} differ in shape")
    wrong = found != wanted
    if valid is not None:
        wrong &= np.asarray(valid, bool)
    missed, excess = _largest_component(wrong & wanted), _largest_component(wrong & found)
    if missed is None and excess is None:
        return None
    if excess is None or (missed is not None and missed.size >= excess.size):
        assert missed is not None
        return _click(_deepest(missed.inside, missed.bounds), foreground=True)
    return _click(_deepest(excess.inside, excess.bounds), foreground=False)


def tight_box(mask: ArrayLike) -> tuple[float, ...] | None:
    """(x0, y0, [z0,] x1, y1, [z1]) around the foreground, pixel edges."""
    bounds = _bounds(np.asarray(mask, bool))
    if bounds is None:
        return None
    return (*(float(part.start) for part in reversed(bounds)), *(float(part.stop) for part in reversed(bounds)))


def jittered_box(mask: ArrayLike, *, rng: np.random.Generator, jitter: float = 0.1) -> tuple[float, ...] | None:
    """The tight box, each edge moved by a uniform draw of up to `jitter` of its side, kept inside the image."""
    if not 0 <= jitter < 0.5:
        raise ValueError(f"jitter {jitter} outside [0, 0.5)")
    box = tight_box(mask)
    if box is None:
        return None
    low, high = np.split(np.array(box), 2)
    moves = rng.uniform(-jitter, jitter, size=(2, low.size)) * (high - low)
    size = np.array(np.shape(mask)[::-1], float)
    return (*np.clip(low + moves[0], 0, size).tolist(), *np.clip(high + moves[1], 0, size).tolist())


def mask_prompt(mask: ArrayLike, mask_size: tuple[int, ...]) -> NDArray[np.float32]:
    """The mask as low-resolution logits: area average p on the decoder's grid, (2p - 1) * MASK_LOGIT."""
    share = np.asarray(mask, np.float32)
    if share.ndim != len(mask_size):
        raise ValueError(f"a mask of {share.ndim} axes for a mask grid of {len(mask_size)}")
    for axis, target in enumerate(mask_size):
        edges = np.arange(target + 1) * share.shape[axis] // target
        counts = np.maximum(np.diff(edges), 1).reshape([-1 if a == axis else 1 for a in range(share.ndim)])
        share = np.add.reduceat(share, edges[:-1], axis=axis) / counts
    return ((2 * share - 1) * MASK_LOGIT).astype(np.float32)


def _click(index: tuple[np.intp | int, ...], *, foreground: bool) -> Click:
    return Click(position=tuple(float(place) + 0.5 for place in reversed(index)), foreground=foreground)


def _bounds(region: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    bounds = []
    for axis in range(region.ndim):
        others = tuple(other for other in range(region.ndim) if other != axis)
        occupied = np.flatnonzero(region.any(axis=others))
        if not occupied.size:
            return None
        bounds.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(bounds)


@dataclass(frozen=True, slots=True)
class _Region:
    """A connected region: its bounding box, what of the box it fills, and how many pixels these are."""

    bounds: tuple[slice, ...]
    inside: NDArray[np.bool_]
    size: int


def _largest_component(region: NDArray[np.bool_]) -> _Region | None:
    """Labelled within the region's bounding box: what is empty around it costs as much as what is not."""
    bounds = _bounds(region)
    if bounds is None:
        return None
    labels, _ = ndimage.label(region[bounds])
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    chosen = int(sizes.argmax())
    box = ndimage.find_objects(labels, max_label=chosen)[chosen - 1]
    placed = tuple(
        slice(outer.start + inner.start, outer.start + inner.stop) for outer, inner in zip(bounds, box, strict=True)
    )
    return _Region(bounds=placed, inside=labels[box] == chosen, size=int(sizes[chosen]))


def _deepest(inside: NDArray[np.bool_], bounds: tuple[slice, ...]) -> tuple[int, ...]:
    """Index of the pixel with the largest distance to the outside; of several, the one nearest their mean.

    Args:
        inside: the region, cut to its bounding box.
        bounds: where that box lies.
    """
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))
    candidates = np.argwhere(depth >= depth.max() - 1e-6)
    nearest = int(((candidates - candidates.mean(axis=0)) ** 2).sum(axis=1).argmin())
    return tuple(int(place) - 1 + part.start for place, part in zip(candidates[nearest], bounds, strict=True))
