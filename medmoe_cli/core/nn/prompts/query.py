"""One query's prompt in numpy, before queries are collated into the tensors a Segmenter takes.

Coordinates are pixel-edge coordinates of the mask's grid, ordered x, y[, z]: pixel i covers [i, i + 1], its centre
lies at i + 0.5, and a mask that occupies pixels a..b has the box [a, b + 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Click:
    """A point prompt: `position` (x, y[, z]), and whether it says 'inside' or 'outside'."""

    position: tuple[float, ...]
    foreground: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryPrompt:
    """All prompts of one query; with nothing set it asks the model to prompt itself.

    Attributes:
        clicks: in the order they were given.
        box: (x0, y0, [z0,] x1, y1, [z1]) or None.
        mask: (h, w) or (d, h, w) float32 logits on the decoder's mask grid, or None.
        class_index: position in the model's class names; -1 without a text prompt.
    """

    clicks: tuple[Click, ...] = ()
    box: tuple[float, ...] | None = None
    mask: NDArray[np.float32] | None = None
    class_index: int = -1

    def with_click(self, click: Click | None) -> QueryPrompt:
        """The same prompt and one more click; unchanged when there is no click to give."""
        return self if click is None else replace(self, clicks=(*self.clicks, click))

    def with_mask(self, mask: NDArray[np.float32] | None) -> QueryPrompt:
        """The same prompt with another low-resolution mask (the previous round's)."""
        return replace(self, mask=mask)

    @property
    def is_empty(self) -> bool:
        """True when nothing is prompted."""
        return not self.clicks and self.box is None and self.mask is None and self.class_index < 0

    @property
    def is_name_alone(self) -> bool:
        """True when a name is all that is prompted: nothing says where it is, or that it is there."""
        return not self.clicks and self.box is None and self.mask is None and self.class_index >= 0
