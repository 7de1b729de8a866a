"""Simulated or typed prompts of several queries, as the tensors a Segmenter takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medmoe_cli.core.nn.prompts.query import QueryPrompt
from medmoe_cli.core.nn.segmenter import Prompts


def collate(queries: Sequence[QueryPrompt], *, mask_size: tuple[int, ...]) -> Prompts:
    """Stack queries; what a query lacks becomes padding.

    Points are padded with label -1 to the longest query of the batch, so a decoder must ignore padded points: how
    many there are depends on a query's neighbours.

    Args:
        queries: at least one.
        mask_size: the decoder's mask grid, (h, w) or (d, h, w); its length gives the number of axes.
    """
    if not queries:
        raise ValueError("collate needs at least one query")
    axes = len(mask_size)
    longest = max(len(query.clicks) for query in queries)
    points = torch.zeros(len(queries), longest, axes)
    labels = torch.full((len(queries), longest), -1, dtype=torch.int64)
    boxes = torch.full((len(queries), 2 * axes), torch.nan)
    has_mask = torch.tensor([query.mask is not None for query in queries])
    masks = torch.zeros(len(queries), 1, *mask_size) if bool(has_mask.any()) else None
    for row, query in enumerate(queries):
        for column, click in enumerate(query.clicks):
            points[row, column] = torch.tensor(click.position)
            labels[row, column] = int(click.foreground)
        if query.box is not None:
            boxes[row] = torch.tensor(query.box)
        if query.mask is not None and masks is not None:
            if query.mask.shape != tuple(mask_size):
                raise ValueError(f"a mask prompt of {query.mask.shape} on a mask grid of {tuple(mask_size)}")
            masks[row, 0] = torch.from_numpy(query.mask)
    class_index = torch.tensor([query.class_index for query in queries], dtype=torch.int64)
    return Prompts(
        points=points, point_labels=labels, boxes=boxes, masks=masks, has_mask=has_mask, class_index=class_index
    )
