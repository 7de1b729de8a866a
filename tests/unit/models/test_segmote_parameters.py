"""Parameter counts against the paper's table 3 and the public code, as measured on it.

The public code at decoder width 768: MoTE 10.47 M, PPT 7.09 M, of which 1.255 M (`expert_mlp`) and 17 k are never used;
at width 256: MoTE 1.68 M (used ones only), PPT 0.79 M. The unused ones are not rebuilt.
"""

from __future__ import annotations

import pytest
import torch

from medmoe_cli.core.models.segmote.config import SegmoteConfig
from medmoe_cli.core.models.segmote.model import Segmote
from tests.tools.segmote import small_plan

NEVER_USED = 2 * (768 * 768 + 768) + 768 * 96 + 96 + 17_000  # of the public code at width 768


def _groups(**keys: object) -> dict[str, int]:
    config = SegmoteConfig.model_validate({"ppt": "on", **keys})
    with torch.device("meta"):
        model = Segmote.build(config, small_plan(size=512))
    return {group.name: group.trainable for group in model.parameter_groups()}


def test_public_codes_counts() -> None:
    small, large = _groups(expert_tail="shared"), _groups(backbone="imisnet-b", expert_tail="shared")
    assert small["MoTE"] == pytest.approx(1.68e6, rel=0.01)
    assert small["PPT"] == pytest.approx(0.79e6, rel=0.01)
    assert large["MoTE"] == pytest.approx(10.47e6 - NEVER_USED, rel=0.01)
    assert large["PPT"] == pytest.approx(7.09e6, rel=0.01)


def test_papers_counts_with_own_experts() -> None:
    groups = _groups(backbone="imisnet-b")
    added = groups["MoTE"] + groups["PPT"] + groups["score head"] + groups["text"]
    assert round(added / 1e6) == 17
    assert round(groups["PPT"] / 1e6) == 7
    assert groups["MoTE"] == 9_481_760
    assert _groups()["MoTE"] == 1_760_096


def test_backbones_are_frozen_and_have_sams_size() -> None:
    groups = _groups()
    assert groups["encoder"] == groups["mask decoder"] == groups["prompt encoder"] == 0
    with torch.device("meta"):
        model = Segmote.build(SegmoteConfig(), small_plan(size=1024))
    total = {group.name: group.total for group in model.parameter_groups()}
    assert total["encoder"] + total["mask decoder"] + total["prompt encoder"] == 93_735_472
