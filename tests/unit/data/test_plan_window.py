"""A fixed intensity window for CT, as papers give it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medmoe_cli.core.config.presets import load_preset, resolve
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.plan_intensity import plan_channels
from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
from tests.tools.plans import dataset_of, fingerprint_of


def test_a_window_takes_the_place_of_the_datasets_own() -> None:
    planned = plan_channels(dataset_of(channels=("CT",)), fingerprint_of(channels=("CT",)), window=(-125, 275))
    assert (planned.channels[0].low, planned.channels[0].high) == (-125, 275)
    assert "-125 to 275 (set by the preset or --set)" in planned.reason


def test_a_window_leaves_other_modalities_alone() -> None:
    planned = plan_channels(dataset_of(channels=("T1",)), fingerprint_of(channels=("T1",)), window=(-125, 275))
    assert planned.channels[0].normalization == "percentile"


def test_a_window_without_a_width_is_refused() -> None:
    with pytest.raises(ValidationError, match="low 5 must be less than high 5"):
        PlanConfig(window=(5, 5))


@pytest.mark.parametrize(("preset", "window"), [("moe-sam-synapse", (-125, 275)), ("moe-sam-mmwhs", (-750, 750))])
def test_the_papers_windows(preset: str, window: tuple[float, float]) -> None:
    assert resolve(load_preset(preset), MoeSamConfig).plan.window == window
