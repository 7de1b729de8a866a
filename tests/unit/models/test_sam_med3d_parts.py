"""Axes, drawn prompts, stages and presets."""

from __future__ import annotations

import re

import pytest
import torch

from medmoe_cli.core.config.presets import load_preset, preset_names, presets_folder, resolve
from medmoe_cli.core.models import registry
from medmoe_cli.core.models.sam_med3d_moe.asking import first_prompts
from medmoe_cli.core.models.sam_med3d_moe.axes import from_published, prompts_to_published, to_published
from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.guidance import draw
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from tests.tools.sam_med3d import answered, mixed_volume_prompts, point_prompts, small_merged, volume_plan, volumes

PRESETS = [name for name in preset_names() if name.startswith("sam-med3d")]


def test_public_axes() -> None:
    """A voxel at x (left), y (back), z (head) lies at X = right, Y = front, Z = head of the public array."""
    volume = torch.zeros(1, 1, 8, 8, 8)
    x, y, z = 1, 2, 5
    volume[0, 0, z, y, x] = 1
    turned = to_published(volume)
    assert turned[0, 0].nonzero().tolist() == [[7 - x, 7 - y, z]]
    assert torch.equal(from_published(turned), volume)
    prompts = point_prompts(torch.tensor([[[x + 0.5, y + 0.5, z + 0.5]]]))
    across, down, deep = (prompts_to_published(prompts, side=8).points[0, 0] - 0.5).long().tolist()
    assert turned[0, 0, deep, down, across] == 1


def test_public_axes_of_boxes() -> None:
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[0, 0, 3:9, 4:6, 10:15] = 1
    prompts = point_prompts(torch.zeros(1, 0, 3))
    boxed = type(prompts)(
        points=prompts.points,
        point_labels=prompts.point_labels,
        boxes=torch.tensor([[10.0, 4.0, 3.0, 15.0, 6.0, 9.0]]),
        masks=volume,
        has_mask=torch.tensor([True]),
        class_index=prompts.class_index,
    )
    turned = prompts_to_published(boxed, side=16)
    x0, y0, z0, x1, y1, z1 = turned.boxes[0].long().tolist()
    assert turned.masks is not None
    assert turned.masks[0, 0, z0:z1, y0:y1, x0:x1].sum() == volume.sum() == turned.masks.sum()


def test_drawn_prompts_lie_where_they_were_put() -> None:
    prompts, _ = mixed_volume_prompts(names=False)
    maps = draw(prompts, grid=32, side=32)
    assert maps.shape == (6, 6, 32, 32, 32)
    assert float(maps.abs().max()) <= 1.6
    ellipsoid, faces, near, far, outside, mask = maps.unbind(1)
    for row, point, click in ((0, 0, near), (0, 1, outside), (2, 0, far), (5, 2, near)):
        place = prompts.points[row, point]
        peak = click[row].flatten().topk(3).indices
        there = [torch.stack(torch.unravel_index(one, (32, 32, 32))).flip(0) + 0.5 for one in peak]
        assert min(float((one - place).norm()) for one in there) < 1
    low, high = prompts.boxes[1].split(3)
    inside = torch.zeros(32, 32, 32, dtype=torch.bool)
    inside[tuple(slice(int(a), int(b)) for a, b in zip(low.flip(0), high.flip(0), strict=True))] = True
    assert torch.equal(faces[1] > 0, inside)
    assert (ellipsoid[1] > 0).sum() == pytest.approx(float(inside.sum()) * torch.pi / 6, rel=0.05)
    assert not (ellipsoid[1] > 0)[~inside].any()
    for one, rows in ((ellipsoid, {1, 3}), (near, {0, 2, 5}), (outside, {0, 3}), (mask, {2, 4})):
        assert {row for row in range(6) if bool(one[row].any())} == rows


def test_first_prompts_keeps_boxes_then_clicks_and_no_mask() -> None:
    prompts, _ = mixed_volume_prompts(names=False)
    kept = first_prompts(prompts, 1)
    assert (kept.point_labels != -1).sum(1).tolist() == [1, 0, 1, 0, 0, 1]
    assert torch.equal(kept.boxes.isnan(), prompts.boxes.isnan())
    assert kept.masks is None
    assert (first_prompts(prompts, 2).point_labels != -1).sum(1).tolist() == [2, 0, 1, 1, 0, 2]


def test_stages_by_role() -> None:
    stages = {
        role: _model(role=role).stages()[0]  # type: ignore[arg-type]
        for role in ("general", "expert", "merged")
    }
    assert [stage.name for stage in stages.values()] == ["general", "expert", "gate"]
    assert {stage.task for stage in stages.values()} == {"prompted"}
    assert stages["general"].losses == {"dice": 1, "bce": 1}
    assert stages["merged"].losses == {"dice": 1, "bce": 1, "owner": 1}
    assert stages["merged"].prompt_mix == {"point": 0.5, "box": 0.5}
    assert stages["merged"].trainable == ("gate.",)
    assert {role: stage.learning_rate for role, stage in stages.items()} == {
        "general": None,
        "expert": 1e-4,
        "merged": 1e-4,
    }


def _model(*, role: str) -> SamMed3dMoe:
    extra: dict[str, object] = {
        "general": {},
        "expert": {"general": "x"},
        "merged": {"experts": [{"name": "a", "classes": ["organ 1"]}]},
    }[role]  # type: ignore[assignment]
    with torch.device("meta"):
        return SamMed3dMoe.build(SamMed3dMoeConfig.model_validate({"role": role, **extra}), volume_plan(side=128))


def test_size_of_the_public_model() -> None:
    groups = {group.name: group.total for group in _model(role="general").parameter_groups()}
    assert groups["encoder"] == pytest.approx(92.92e6, rel=1e-3)
    assert groups["general decoder"] == pytest.approx(7.58e6, rel=1e-2)


def test_one_click_cannot_be_told_from_its_neighbours_padding_in_the_drawn_maps() -> None:
    merged = small_merged(stem="conv", draw_prompts=True)
    one = point_prompts(torch.tensor([[[5.0, 6.0, 7.0]]]))
    padded = point_prompts(torch.tensor([[[5.0, 6.0, 7.0], [20.0, 20.0, 20.0]]]), labels=torch.tensor([[1, -1]]))
    found = [answered(merged, volumes(), prompts, torch.tensor([0])).logits for prompts in (one, padded)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


def test_the_three_presets_are_there() -> None:
    assert set(PRESETS) == {"sam-med3d-moe-tiny", "sam-med3d-moe-sppin", "sam-med3d-moe-weak15"}
    assert set(registry.card("sam-med3d-moe").presets) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_says_where_it_comes_from(name: str) -> None:
    lines = (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r"^  [a-z_0-9]+: ", line)]
    assert len(values) >= 3
    for line in values:
        assert "# " in line, line


@pytest.mark.parametrize("name", PRESETS)
def test_builds_at_its_own_size(name: str) -> None:
    preset = load_preset(name)
    config = resolve(preset, SamMed3dMoeConfig).model
    assert isinstance(config, SamMed3dMoeConfig)
    wanted = None if name.endswith("tiny") else "sam-med3d"
    assert registry.method("sam-med3d-moe").backbone_name(config) == wanted
    with torch.device("meta"):
        model = registry.method("sam-med3d-moe").build(
            config, volume_plan(side=int(preset.values["plan"]["input_size"]))
        )
    assert sum(model.stages()[0].prompt_mix.values()) == pytest.approx(1)
    assert model.stages()[0].learning_rate == (None if wanted is None else 1e-4)
