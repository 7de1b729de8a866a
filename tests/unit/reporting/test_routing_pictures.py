from __future__ import annotations

import numpy as np
import pytest

from medmoe_cli.core.config.routing_use import PlaceUse, RoutingUse
from medmoe_cli.core.reporting.page import Picture, Table, Text
from medmoe_cli.core.reporting.routing_use import effective_number, routing_blocks, routing_case_tables, totals


def tokens(cases: dict[str, tuple[float, ...]], classes: dict[str, tuple[float, ...]] | None = None) -> PlaceUse:
    number = len(next(iter(cases.values())))
    return PlaceUse(kind="items choose", num_experts=number, item="token", cases=cases, classes=classes or {})


def layers() -> PlaceUse:
    first = ((6.0, 2.0, 0.0), (0.0, 1.0, 7.0))
    second = ((6.0, 2.0, 0.0), (0.0, 3.0, 5.0))
    return PlaceUse(
        kind="experts choose", num_experts=2, num_items=3, item="layer", cases={"one": first, "two": second}
    )


def test_counts_of_all_cases_are_added() -> None:
    np.testing.assert_array_equal(totals(tokens({"a": (1, 2), "b": (3, 4)})), [4, 6])
    np.testing.assert_array_equal(totals(layers()), [[12, 4, 0], [0, 4, 12]])


@pytest.mark.parametrize(("counts", "expected"), [([5, 5, 5, 5], 4.0), ([7, 0, 0], 1.0), ([0, 0], 0.0)])
def test_even_use_is_as_varied_as_all_experts_and_one_for_all_as_one(counts: list[float], expected: float) -> None:
    assert effective_number(np.array(counts, float)) == pytest.approx(expected)


def test_bars_and_words_name_the_busy_and_the_idle() -> None:
    use = RoutingUse(places={"layer1": tokens({"a": (90, 10, 0)}, {"left_kidney": (9, 1, 0)})})
    blocks = routing_blocks(use)
    words = " ".join(block.text for block in blocks if isinstance(block, Text))
    assert "Layer 1: expert 1 of 3 takes most, 90 % of 100 tokens" in words
    assert "Hardly used (below 1 %): 3" in words
    (picture,) = (block for block in blocks if isinstance(block, Picture))
    assert "90 %, 10 %, 0 %" in picture.alt
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert table.rows == (("left kidney", "90 %", "10 %", "0 %"),)
    (by_case,) = routing_case_tables(use)
    assert isinstance(by_case, Table)
    assert by_case.rows == (("a", "90 %", "10 %", "0 %"),)


def test_experts_that_choose_are_shown_by_what_they_choose() -> None:
    use = RoutingUse(places={"feb": layers()})
    blocks = routing_blocks(use)
    words = " ".join(block.text for block in blocks if isinstance(block, Text))
    assert "expert 1 most often layer 1 (75 %)" in words.lower()
    assert "expert 2 most often layer 3 (75 %)" in words
    assert [block.name for block in blocks if isinstance(block, Picture)] == [
        "routing-feb-choices",
        "routing-feb-layers",
    ]
    (table,) = routing_case_tables(use)
    assert isinstance(table, Table)
    assert table.columns == ("Case", "layer 1", "layer 2", "layer 3")
    assert table.rows[0] == ("one", "38 %", "19 %", "44 %")


def test_many_places_become_one_map() -> None:
    use = RoutingUse(places={f"block{place}": tokens({"a": (3, 1)}) for place in range(20)})
    (picture,) = (block for block in routing_blocks(use) if isinstance(block, Picture))
    assert "20 places" in picture.alt
