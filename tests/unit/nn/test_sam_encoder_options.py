"""What the encoder offers beyond segment_anything's: features, recomputation, other sizes, other widths."""

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam
from torch import Tensor, nn

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.nn.sam2d import (
    SAM_SIZES,
    SamEncoder,
    SamSize,
    build_mask_decoder,
    build_prompt_encoder,
    normalise_pixels,
    resize_table,
    sam_size,
)
from medmoe_cli.core.nn.weights import load_into

SMALL = SamSize(name="small", width=24, depth=4, num_heads=2, global_blocks=(1, 3), patch=8, neck_width=16)


def small(**options: bool | int) -> SamEncoder:
    torch.manual_seed(0)
    return SamEncoder(SMALL, image_size=136, **options)


def pixels(size: int = 136) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_early_features_are_the_chosen_blocks_output() -> None:
    for early_block in (None, 0, 2):
        encoder = small() if early_block is None else small(early_block=early_block)
        found = encoder(pixels(), all_blocks=True)
        assert len(found.blocks) == 4
        assert found.blocks[0].shape == (2, 17, 17, 24)
        chosen = 1 if early_block is None else early_block
        assert torch.equal(found.early, found.blocks[chosen].permute(0, 3, 1, 2))
        assert found.embedding.shape == (2, 16, 17, 17)
        assert torch.equal(found.embedding, encoder.neck(found.blocks[-1].permute(0, 3, 1, 2)))
    assert small()(pixels()).blocks == ()


def test_recomputing_blocks_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = small(checkpointing=checkpointing)
        found = encoder(pixels())
        (found.embedding.square().mean() + found.early.square().mean()).backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_every_parameter_gets_a_gradient_from_a_fresh_model() -> None:
    encoder = small()
    encoder(pixels()).embedding.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_an_image_is_encoded_alike_alone_and_in_a_batch() -> None:
    encoder = small().eval()
    batch = torch.cat([pixels(), pixels().flip(0)])
    with torch.no_grad():
        together, alone = encoder(batch).embedding, encoder(batch[:1]).embedding
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[:1], together[3:], atol=1e-5, rtol=0)


def test_pixels_are_normalised_as_sam_does() -> None:
    sam = Sam(ImageEncoderViT(img_size=136, patch_size=8, depth=0), None, None)  # type: ignore[arg-type]
    image = torch.rand(1, 3, 136, 136)
    torch.testing.assert_close(normalise_pixels(image)[0], sam.preprocess(image[0] * 255), atol=1e-4, rtol=0)
    grey = image[:, :1]
    torch.testing.assert_close(normalise_pixels(grey), normalise_pixels(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        normalise_pixels(torch.rand(1, 2, 8, 8))


def test_tables_are_resized_at_load_and_window_tables_untouched() -> None:
    source, target = small(), SamEncoder(SMALL, image_size=256)
    report = load_into(target, source.state_dict(), resize=resize_table)
    assert not report.missing
    assert set(report.resized) == {"pos_embed"} | {f"blocks.{i}.attn.rel_pos_{axis}" for i in (1, 3) for axis in "hw"}
    assert torch.equal(target.blocks[0].attn.rel_pos_h, source.blocks[0].attn.rel_pos_h)
    assert target(pixels(256)).embedding.shape == (2, 16, 32, 32)
    again = SamEncoder(SMALL, image_size=136)
    assert load_into(again, source.state_dict(), resize=resize_table).resized == ()
    torch.testing.assert_close(again(pixels()).embedding, source(pixels()).embedding)


def test_resizing_keeps_constant_and_linear_tables() -> None:
    constant = resize_table("pos_embed", torch.full((1, 4, 4, 3), 2.5), torch.Size((1, 9, 9, 3)))
    torch.testing.assert_close(constant, torch.full((1, 9, 9, 3), 2.5))
    ramp = torch.arange(27.0)[:, None].expand(-1, 2)
    resized = resize_table("attn.rel_pos_h", ramp, torch.Size((53, 2)))
    assert resized is not None
    steps = resized[1:, 0] - resized[:-1, 0]
    torch.testing.assert_close(steps[2:-2], torch.full((48,), 27 / 53), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "have", "want"),
    [
        ("blocks.0.attn.qkv.weight", (6, 2), (12, 2)),
        ("pos_embed", (1, 4, 4, 3), (1, 4, 4, 5)),
        ("attn.rel_pos_h", (27, 64), (27, 80)),
        ("text.pos_embed", (77, 5), (50, 5)),
    ],
)
def test_nothing_else_is_resized(name: str, have: tuple[int, ...], want: tuple[int, ...]) -> None:
    assert resize_table(name, torch.zeros(have), torch.Size(want)) is None


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the patch"):
        SamEncoder(SMALL, image_size=100)
    with pytest.raises(ValueError, match="128x128 for an encoder of 136x136"):
        small()(pixels(128))
    with pytest.raises(ValueError, match="early_block 9"):
        small(early_block=9)
    with pytest.raises(ConfigError, match="did you mean 'sam-vit-b'"):
        sam_size("sam-vit-bb")


@pytest.mark.parametrize("name", list(SAM_SIZES))
def test_the_table_of_sizes_is_consistent(name: str) -> None:
    size = sam_size(name)
    assert size.name == name
    assert size.width % size.num_heads == 0
    assert size.neck_width % 16 == 0
    assert max(size.global_blocks) == size.depth - 1
    assert size.early_block == min(size.global_blocks)


@pytest.mark.parametrize("width", [64, 256, 768])
def test_sams_prompt_encoder_and_decoder_at_any_width(width: int) -> None:
    prompts, decoder = build_prompt_encoder(width=width, image_size=128, grid=8), build_mask_decoder(width=width)
    assert isinstance(prompts, PromptEncoder)
    assert isinstance(decoder, MaskDecoder)
    points = (torch.tensor([[[10.0, 20.0]]]), torch.tensor([[1]]))
    sparse, dense = prompts(
        points=points, boxes=torch.tensor([[1.0, 2.0, 30.0, 40.0]]), masks=torch.zeros(1, 1, 32, 32)
    )
    masks, scores = decoder(
        image_embeddings=torch.randn(1, width, 8, 8),
        image_pe=prompts.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    assert masks.shape == (1, 1, 32, 32)
    assert scores.shape == (1, 1)
    assert all(isinstance(module, nn.Module) for module in (prompts, decoder))
