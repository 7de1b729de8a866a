"""Three distinct layers at depths L/6, L/4 and L/2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmoe_cli.core.models.da_sam3.depths import explain_depths, moe_depths


@pytest.mark.parametrize(
    ("num_layers", "layers"), [(6, (0, 1, 2)), (12, (1, 2, 5)), (24, (3, 5, 11)), (4, (0, 1, 2)), (3, (0, 1, 2))]
)
def test_the_papers_depths(num_layers: int, layers: tuple[int, ...]) -> None:
    assert moe_depths(num_layers) == layers


@given(num_layers=st.integers(3, 200))
def test_always_three_distinct_layers_that_exist(num_layers: int) -> None:
    layers = moe_depths(num_layers)
    assert len(set(layers)) == 3
    assert list(layers) == sorted(layers)
    assert 0 <= layers[0] <= layers[-1] < num_layers


@pytest.mark.parametrize("num_layers", [1, 2])
def test_too_few_layers_are_said(num_layers: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        moe_depths(num_layers)


def test_chosen_layers_replace_the_depths() -> None:
    assert moe_depths(6, chosen=(5, 0)) == (0, 5)
    with pytest.raises(ValueError, match="layer 6 of 6"):
        moe_depths(6, chosen=(6,))


def test_the_choice_is_explained() -> None:
    assert explain_depths(6) == (
        "layers 1, 2, 3 of the 6 fusion layers: depths L/6, L/4 and L/2 are 1, 1.5, 3, halves rounded up and kept "
        "apart, for three distinct layers"
    )
    assert "model.moe_layers" in explain_depths(6, chosen=(4,))
