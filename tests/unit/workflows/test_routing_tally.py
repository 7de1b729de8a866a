from __future__ import annotations

import torch

from medmoe_cli.core.nn.moe.routers import choose_experts, choose_items, select_above
from medmoe_cli.core.workflows.scoring.routing_tally import RoutingTally


def test_items_that_choose_are_counted_by_case_and_class() -> None:
    logits = torch.tensor([[2.0, 1, 0], [0, 2, 1], [2, 0, 1], [2, 1, 0]])  # two tokens of each of two queries
    tally = RoutingTally()
    tally.add("one", ["a", "b"], {"layer1": choose_experts(logits, num_active=1)})
    tally.add("two", ["a", None], {"layer1": choose_experts(logits, num_active=2)})
    use = tally.result().places["layer1"]
    assert (use.kind, use.num_experts, use.num_items, use.item) == ("items choose", 3, None, "token")
    assert use.cases == {"one": (3, 1, 0), "two": (3, 3, 2)}
    assert use.classes == {"a": (1 + 1, 1 + 2, 1), "b": (2, 0, 0)}


def test_one_choice_per_query_and_experts_that_did_not_run() -> None:
    tally = RoutingTally()
    tally.add("case", ["a", "a"], {"gate": select_above(torch.tensor([[0.0, 9], [9, 0]]), threshold=0.5)})
    use = tally.result().places["gate"]
    assert use.item == "query"
    # The general expert runs always (its gate is never quite zero), the other once.
    assert use.cases == {"case": (2, 1)}


def test_experts_that_choose_give_a_table_of_experts_and_items() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2 * 5, 4, 3, generator=generator)  # 5 places of 2 images, 4 layers, 3 experts
    routing = choose_items(logits, num_active=2)
    tally = RoutingTally()
    tally.add("case", [None, None], {"feb": routing})
    use = tally.result().places["feb"]
    assert (use.kind, use.num_experts, use.num_items) == ("experts choose", 3, 4)
    expected = [[int((routing.indices[:, e] == i).sum()) for i in range(4)] for e in range(3)]
    assert [list(row) for row in use.cases["case"] if isinstance(row, tuple)] == expected
    assert use.classes == {}


def test_items_may_be_numbered_coarser_and_a_table_too_large_to_read_is_left_out() -> None:
    from dataclasses import replace

    logits = torch.randn(1, 600, 2, generator=torch.Generator().manual_seed(0))
    routing = choose_items(logits, num_active=300)
    tally = RoutingTally()
    tally.add("case", [None], {"feb": routing})
    assert tally.result().places == {}
    by_layer = replace(routing, indices=routing.indices // 200, num_items=3)
    tally = RoutingTally()
    tally.add("case", [None], {"feb": by_layer})
    (row, _) = tally.result().places["feb"].cases["case"]
    assert isinstance(row, tuple)
    assert len(row) == 3
    assert sum(row) == 300
