"""`validation/routing.json`: how often each expert was used, by place in the network, case and class."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medmoe_cli.core.config.sections import Section

Counts = tuple[float, ...] | tuple[tuple[float, ...], ...]


class PlaceUse(Section):
    """The use of one routed layer.

    Attributes:
        kind: 'items choose': each item chose its experts, counts are (E,) items per expert;
            'experts choose': each expert chose among n items, counts are (E, n) choices, row by expert.
        num_experts: E.
        num_items: n where experts choose.
        item: what an item is, in one word ('layer', 'token', 'query').
        cases: counts by case.
        classes: counts by class name, where queries ask for classes; empty for automatic methods.
    """

    kind: Literal["items choose", "experts choose"]
    num_experts: int
    num_items: int | None = None
    item: str
    cases: dict[str, Counts] = Field(default_factory=dict)
    classes: dict[str, Counts] = Field(default_factory=dict)


class RoutingUse(Section):
    """All routed places by the name that `Output.routing` gives them."""

    schema_version: int = 1
    places: dict[str, PlaceUse] = Field(default_factory=dict)
