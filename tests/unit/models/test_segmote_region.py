"""The second look: which region, sampled how, and put back where it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.models.segmote.region import _standardised, choose_regions, paste, region_coordinates, sample
from medmoe_cli.core.nn.segmenter import Prompts
from tests.tools.segmote import mixed_prompts, small_images, small_plan, small_segmote

PROMPTS, _ = mixed_prompts()
TINY: dict[str, object] = {
    "stem": "conv",
    "draw_prompts": True,
    "region_refinement": True,
    "train_encoder": True,
    "train_decoder": True,
}


def _coarse(*rows: tuple[int, int, int, int]) -> torch.Tensor:
    """Answers of nine queries on a 16 x 16 grid over 64 pixels: x0, y0, x1, y1 in cells, or nothing."""
    coarse = torch.full((9, 1, 16, 16), -1.0)
    for row, (x0, y0, x1, y1) in enumerate(rows):
        coarse[row, 0, y0:y1, x0:x1] = 1
    return coarse


def test_regions_are_box_answer_click_or_everything() -> None:
    coarse = _coarse(*[(2, 4, 6, 8)] * 6)
    regions = choose_regions(PROMPTS, coarse, input_size=64, margin=1.0)
    torch.testing.assert_close(regions[1], PROMPTS.boxes[1])
    torch.testing.assert_close(regions[5], PROMPTS.boxes[5])
    torch.testing.assert_close(regions[2], torch.tensor([8.0, 16.0, 24.0, 32.0]))  # text: the answer's bounds
    torch.testing.assert_close(regions[6], torch.tensor([0.0, 0.0, 64.0, 64.0]))  # no answer at all
    for row in (0, 4):  # the answer and the foreground click
        x, y = PROMPTS.points[row, 0]
        assert regions[row, 0] <= min(8, x - 2) + 1e-4
        assert regions[row, 3] >= max(32, y + 2) - 1e-4
    nothing = choose_regions(PROMPTS, _coarse(), input_size=64, margin=1.0)
    torch.testing.assert_close((nothing[4, :2] + nothing[4, 2:]) / 2, PROMPTS.points[4, 0])
    wide = choose_regions(PROMPTS, coarse, input_size=64, margin=2.0)
    torch.testing.assert_close(wide[1, 2:] - wide[1, :2], 2 * (regions[1, 2:] - regions[1, :2]))


def test_regions_without_any_point_slot() -> None:
    prompts = replace(PROMPTS, points=torch.zeros(9, 0, 2), point_labels=torch.zeros(9, 0, dtype=torch.long))
    regions = choose_regions(prompts, _coarse((2, 4, 6, 8)), input_size=64, margin=1.0)
    torch.testing.assert_close(regions[0], torch.tensor([8.0, 16.0, 24.0, 32.0]))
    assert torch.isfinite(regions).all()


@settings(max_examples=25)
@given(x0=st.floats(-5, 40), y0=st.floats(-5, 40), width=st.floats(12, 40), height=st.floats(12, 40))
def test_what_is_sampled_and_pasted_is_back_in_place(x0: float, y0: float, width: float, height: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    whole = (0.3 * columns - 0.2 * rows)[None, None]  # linear, so that bilinear sampling is exact
    region = torch.tensor([[x0, y0, x0 + width, y0 + height]])
    x, y = region_coordinates(region, 48)
    part = sample(whole, x, y, input_size=64)
    pasted = paste(part, torch.full_like(whole, 99.0), region)[0, 0]
    outside = (columns < x0 - 0.01) | (columns > x0 + width + 0.01) | (rows < y0 - 0.01) | (rows > y0 + height + 0.01)
    assert (pasted[outside] == 99).all()
    away = (columns > max(x0, 0) + 1.5) & (columns < min(x0 + width, 64) - 1.5)
    away &= (rows > max(y0, 0) + 1.5) & (rows < min(y0 + height, 64) - 1.5)
    torch.testing.assert_close(pasted[away], whole[0, 0][away], atol=2e-2, rtol=0)


def test_the_first_answer_stays_outside_the_region() -> None:
    model = small_segmote(**TINY).eval()
    prompts, image_Q = mixed_prompts()
    with torch.no_grad():
        features = model.encode(small_images()).take(image_Q)
        before = model.decode(features, prompts).logits
        assert model.answer.region is not None
        model.answer.region.heads.biases[-1].add_(5)
        after = model.decode(features, prompts).logits
    x0, y0, x1, y1 = (int(value) for value in PROMPTS.boxes[1])
    changed = (after - before)[1, 0].abs() > 1e-4
    assert changed[y0:y1, x0:x1].float().mean() > 0.9
    margin = int(0.125 * (x1 - x0)) + 1, int(0.125 * (y1 - y0)) + 1
    changed[max(y0 - margin[1], 0) : y1 + margin[1], max(x0 - margin[0], 0) : x1 + margin[0]] = False
    assert not changed.any()


def test_small_structures_gain_resolution() -> None:
    """A region of twelve pixels is three cells of the mask grid; its answer is made of more than three values a row."""
    model = small_segmote(**TINY).eval()
    box = Prompts(
        points=torch.zeros(1, 1, 2),
        point_labels=torch.full((1, 1), -1),
        boxes=torch.tensor([[20.0, 20.0, 32.0, 32.0]]),
        masks=None,
        has_mask=torch.tensor([False]),
        class_index=torch.tensor([-1]),
    )
    images = small_images(1)
    moved = images.clone()
    moved[..., 24:28, 24:26] = 1 - moved[..., 24:28, 24:26]
    with torch.no_grad():
        for head in model.answer.region.heads.weights:
            head.mul_(5)
        difference = model.decode(model.encode(moved), box).logits - model.decode(model.encode(images), box).logits
    assert difference[0, 0, 20:32, 20:32].abs().max() > 1e-2


def test_a_region_is_seen_at_a_contrast_of_its_own() -> None:
    image = small_images(1)
    faint = 0.4 + 0.05 * image  # organs of few grey levels
    (one, other), flat = (_standardised(part) for part in (image, faint)), _standardised(torch.full_like(image, 0.3))
    torch.testing.assert_close(one, other, atol=0.2, rtol=0)
    assert float(flat.abs().max()) < 1e-3
    with_it, without = (small_segmote(**TINY, region_contrast=shown).eval() for shown in (True, False))
    assert with_it.answer.region is not None
    contrast = with_it.answer.region.contrast
    assert contrast is not None
    with_it.load_state_dict({**without.state_dict(), "answer.region.contrast.weight": contrast.weight})
    prompts, image_Q = mixed_prompts()
    answers = []
    for model in (without, with_it):
        with torch.no_grad():
            answers.append(model.decode(model.encode(small_images()).take(image_Q), prompts).logits)
    assert torch.equal(*answers)  # it begins as without
    torch.nn.init.normal_(contrast.weight)
    with torch.no_grad():
        changed = with_it.decode(with_it.encode(small_images()).take(image_Q), prompts).logits
    assert not torch.equal(changed, answers[0])
    with pytest.raises(ValueError, match="region_contrast needs region_refinement"):
        small_segmote(region_contrast=True)


def test_images_larger_than_the_encoder() -> None:
    model = small_segmote(**TINY, encoder_size=32).eval()
    assert model.mask_size == (8, 8)
    prompts, image_Q = mixed_prompts(mask_size=model.mask_size)
    with torch.no_grad():
        features = model.encode(small_images())
        output = model.decode(features.take(image_Q), prompts)
    assert features.maps["fine"].shape[-1] == 16
    assert features.maps["pixels"].shape[-1] == 64
    assert output.logits.shape[-1] == 64
    with pytest.raises(ConfigError, match="cannot be encoded at 48"):
        small_segmote(**TINY, encoder_size=48)
    with pytest.raises(ConfigError, match="cannot be encoded at 32"):
        small_segmote(plan=small_plan(size=80), **TINY, encoder_size=32)
