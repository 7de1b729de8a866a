from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.config.routing_use import PlaceUse, RoutingUse
from medmoe_cli.core.reporting.page import Page, Picture, Section, Table, Text, render
from medmoe_cli.core.reporting.routing_use import routing_blocks, routing_case_tables, totals
from medmoe_cli.core.reporting.variety import dependence, effective_number
from tests.tools.reports import ReadPage


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
    assert "Layer 1: expert 1 of 3 takes most, 90 % of 100 choices by tokens" in words
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


def test_structures_and_depths_stand_in_one_table_the_darkest_cell_being_the_largest_share() -> None:
    classes = {"liver": (9.0, 1.0), "left_kidney": (1.0, 4.0)}
    use = RoutingUse(places={f"layer{depth}": tokens({"a": (10, 5)}, classes) for depth in (1, 2, 3)})
    (table,) = (block for block in routing_blocks(use) if isinstance(block, Table))
    assert [group.title for group in table.groups] == [f"Layer {depth}, expert" for depth in (1, 2, 3)]
    assert table.columns == ("Structure", *("1", "2") * 3)
    assert table.rows == (
        ("liver", *("90 %", "10 %") * 3),
        ("left kidney", *("20 %", "80 %") * 3),
    )
    assert table.shades[0][:2] == (1.0, 0.111)
    assert table.shades[1][:2] == (0.222, 0.889)
    assert table.starts == {1, 3, 5}
    page = render(Page(title="t", subtitle="s", footer="f", sections=(Section(title="one", blocks=(table,)),)))
    ReadPage(page)
    assert page.count('colspan="2"') == 3
    assert "background: rgba(0, 114, 178, 0.550)" in page


def test_the_choice_of_a_token_stands_in_a_table_of_its_own_and_wide_tables_are_parted() -> None:
    classes = {"liver": (9.0, 1.0), "spleen": (1.0, 4.0)}
    use = RoutingUse(places={name: tokens({"a": (10, 5)}, classes) for name in ("layer1", "layer2", "token")})
    tables = [block for block in routing_blocks(use) if isinstance(block, Table)]
    assert [len(table.columns) for table in tables] == [5, 3]
    assert tables[1].caption == "Choice of the mask's token, by structure"
    wide = tokens({"a": (1.0,) * 16}, {"liver": (1.0,) * 16})
    parted = routing_blocks(RoutingUse(places={"layer1": wide, "layer2": wide}))
    assert [block.caption for block in parted if isinstance(block, Table)] == [
        "Layer 1, by structure",
        "Layer 2, by structure",
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5, 5], [50, 50]], 0.0),
        ([[9, 0], [0, 1]], 1.0),
        ([[3, 1], [0, 0]], 0.0),  # one structure has nothing to be told from
        ([[4, 0], [9, 0]], 0.0),  # one expert does everything
    ],
)
def test_the_share_of_the_choice_that_structures_explain(counts: list[list[float]], expected: float) -> None:
    assert dependence(np.array(counts, float)) == pytest.approx(expected)


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=1, max_size=6))
def test_explained_shares_are_shares(counts: list[list[int]]) -> None:
    assert 0 <= dependence(np.array(counts, float)) <= 1


def test_many_places_become_one_map() -> None:
    use = RoutingUse(places={f"block{place}": tokens({"a": (3, 1)}) for place in range(20)})
    (picture,) = (block for block in routing_blocks(use) if isinstance(block, Picture))
    assert "20 places" in picture.alt
