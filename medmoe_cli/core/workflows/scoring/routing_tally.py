"""Counts how often each expert is used, by place, case and class, while masks are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.config.routing_use import Counts, PlaceUse, RoutingUse
from medmoe_cli.core.nn.moe.routing import Routing

# A table of choices is for reading: experts that choose among more items than this are not recorded.
_MOST_ITEMS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    experts_choose: bool
    num_experts: int
    num_items: int | None
    item: str


class RoutingTally:
    """Collects what routers decided; `result` is what `routing.json` holds."""

    def __init__(self) -> None:
        self._shapes: dict[str, _Shape] = {}
        self._cases: dict[str, dict[str, NDArray[np.float64]]] = {}
        self._classes: dict[str, dict[str, NDArray[np.float64]]] = {}

    def add(self, case: str, classes: Sequence[str | None], routing: Mapping[str, Routing]) -> None:
        """Count the routing of some queries of a case.

        Args:
            case: its id.
            classes: by query, the class it asks for; None for all classes at once.
            routing: by place; rows are the queries' items, query by query.
        """
        for place, decided in routing.items():
            shape = self._shapes.setdefault(place, _shape_of(decided, len(classes)))
            if shape.num_items is not None and shape.num_items > _MOST_ITEMS:
                continue
            counts_Q = _counts(decided, shape, len(classes))
            _add(self._cases.setdefault(place, {}), case, counts_Q.sum(axis=0))
            for name, counts in zip(classes, counts_Q, strict=True):
                if name is not None:
                    _add(self._classes.setdefault(place, {}), name, counts)

    def result(self) -> RoutingUse:
        """Everything counted so far."""
        return RoutingUse(
            places={
                place: PlaceUse(
                    kind="experts choose" if shape.experts_choose else "items choose",
                    num_experts=shape.num_experts,
                    num_items=shape.num_items,
                    item=shape.item,
                    cases={case: _plain(counts) for case, counts in self._cases[place].items()},
                    classes={name: _plain(counts) for name, counts in self._classes.get(place, {}).items()},
                )
                for place, shape in self._shapes.items()
                if place in self._cases
            }
        )


def _shape_of(routing: Routing, num_queries: int) -> _Shape:
    num_experts = routing.logits.shape[-1]
    if routing.indices.ndim == 3:
        num_items = routing.num_items or routing.logits.shape[1]
        return _Shape(experts_choose=True, num_experts=num_experts, num_items=num_items, item="layer")
    item = "query" if routing.indices.shape[0] == num_queries else "token"
    return _Shape(experts_choose=False, num_experts=num_experts, num_items=None, item=item)


def _counts(routing: Routing, shape: _Shape, num_queries: int) -> NDArray[np.float64]:
    """(Q, E) items per expert, or (Q, E, n) choices per expert and item."""
    indices = routing.indices.cpu().numpy()
    used = routing.gates.float().cpu().numpy() > 0  # a choice without weight is an expert that did not run
    if not shape.experts_choose:
        flat, kept = indices.reshape(num_queries, -1), used.reshape(num_queries, -1)
        return np.stack(
            [np.bincount(row[on], minlength=shape.num_experts) for row, on in zip(flat, kept, strict=True)]
        ).astype(np.float64)
    assert shape.num_items is not None
    expert = np.broadcast_to(np.arange(shape.num_experts)[None, :, None], indices.shape)
    cell = (expert * shape.num_items + indices).reshape(num_queries, -1)
    size = shape.num_experts * shape.num_items
    counted = np.stack([np.bincount(row, minlength=size) for row in cell])
    return counted.reshape(num_queries, shape.num_experts, shape.num_items).astype(np.float64)


def _add(table: dict[str, NDArray[np.float64]], key: str, counts: NDArray[np.float64]) -> None:
    table[key] = table[key] + counts if key in table else counts


def _plain(counts: NDArray[np.float64]) -> Counts:
    if counts.ndim == 1:
        return tuple(float(count) for count in counts)
    return tuple(tuple(float(count) for count in row) for row in counts)
