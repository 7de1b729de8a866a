"""Our SAM encoder against segment_anything's, with random weights, tables and biases."""

from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from medmoe_cli.core.nn.sam2d import SamEncoder, SamSize, sam_size

SHALLOW = SamSize(name="shallow", width=768, depth=2, num_heads=12, global_blocks=(1,))
SMALL = SamSize(name="small", width=48, depth=3, num_heads=3, global_blocks=(1,), neck_width=16)


def reference(size: SamSize, image_size: int) -> ImageEncoderViT:
    return ImageEncoderViT(
        depth=size.depth,
        embed_dim=size.width,
        img_size=image_size,
        patch_size=size.patch,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=size.num_heads,
        use_rel_pos=True,
        global_attn_indexes=size.global_blocks,
        window_size=14,
        out_chans=size.neck_width,
    )


def randomise(module: nn.Module, *, seed: int) -> None:
    """Weights at their usual scale; biases, norms and position tables well away from zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif "pos" in name:
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)


def pair(size: SamSize, image_size: int, **options: bool) -> tuple[SamEncoder, ImageEncoderViT]:
    theirs = reference(size, image_size)
    randomise(theirs, seed=image_size)
    ours = SamEncoder(size, image_size=image_size, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def largest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).detach().abs().max())


def compare_gradients(ours: SamEncoder, theirs: ImageEncoderViT, pixels: torch.Tensor, tolerance: float) -> None:
    """Forward and gradients of every parameter, the latter relative to the tensor's largest entry."""
    weights = torch.randn(theirs(pixels[:1]).shape[1:], generator=torch.Generator().manual_seed(1))
    out_ours, out_theirs = ours(pixels).embedding, theirs(pixels)
    assert largest(out_ours, out_theirs) <= tolerance
    (out_ours * weights).mean().backward()
    (out_theirs * weights).mean().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        scale = float(expected[name].grad.abs().max())
        assert largest(parameter.grad, expected[name].grad) <= 1e-4 * scale, name


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-vit-l", "sam-vit-h", "tiny", "imisnet-b"])
def test_names_and_shapes_are_segment_anythings(name: str) -> None:
    size = sam_size(name)
    with torch.device("meta"):
        ours, theirs = SamEncoder(size, image_size=1024), reference(size, 1024)
    shapes = {key: tuple(tensor.shape) for key, tensor in ours.state_dict().items()}
    assert shapes == {key: tuple(tensor.shape) for key, tensor in theirs.state_dict().items()}


@pytest.mark.parametrize("grid", [8, 14, 15, 16, 20, 28, 32])
def test_windows_without_padding_equal_padded_ones(grid: int) -> None:
    ours, theirs = pair(SMALL, grid * 16)
    pixels = torch.randn(2, 3, grid * 16, grid * 16, generator=torch.Generator().manual_seed(grid))
    compare_gradients(ours, theirs, pixels, 1e-5)


def test_nothing_changes_when_the_bias_is_too_large_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medmoe_cli.core.nn.sam2d.attention.LARGEST_BIAS", 1000)
    monkeypatch.setattr("medmoe_cli.core.nn.sam2d.attention.CHUNK_OF_BIAS", 400_000)  # five heads of six, then one
    ours, theirs = pair(SMALL, 272)
    pixels = torch.randn(2, 3, 272, 272, generator=torch.Generator().manual_seed(3))
    compare_gradients(ours, theirs, pixels, 1e-5)
    with torch.no_grad():
        assert largest(ours(pixels).embedding, theirs(pixels)) <= 1e-5


def test_vit_b_at_256() -> None:
    ours, theirs = pair(sam_size("sam-vit-b"), 256)
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(256))
    compare_gradients(ours, theirs, pixels, 1e-4)


def test_vit_b_width_at_1024() -> None:
    ours, theirs = pair(SHALLOW, 1024)
    pixels = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1024))
    with torch.no_grad():
        assert largest(ours(pixels).embedding, theirs(pixels)) <= 1e-4


@pytest.mark.slow
def test_vit_b_at_1024() -> None:
    ours, theirs = pair(sam_size("sam-vit-b"), 1024)
    pixels = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1024))
    with torch.no_grad():
        assert largest(ours(pixels).embedding, theirs(pixels)) <= 1e-4


@pytest.mark.slow
def test_gradients_of_vit_b_width_at_1024() -> None:
    ours, theirs = pair(SHALLOW, 1024)
    pixels = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1024))
    compare_gradients(ours, theirs, pixels, 1e-4)
