"""The 3D encoder: recomputation, batches, other cubes, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.nn.sam3d import SAM3D_SIZES, Sam3dEncoder, Sam3dSize, resize_table_3d, sam3d_size
from medmoe_cli.core.nn.weights import load_into
from tests.tools.sam3d import SMALL, small_parts, volumes


@pytest.mark.parametrize("published", [True, False])
def test_recomputing_blocks_changes_no_gradient(published: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        size = replace(SMALL, published_positions=published)
        encoder = small_parts(size, checkpointing=checkpointing).image_encoder
        encoder(volumes()).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.mark.parametrize("size", [SMALL, replace(SMALL, published_positions=True), sam3d_size("tiny")])
def test_every_parameter_gets_a_gradient_from_a_fresh_model(size: Sam3dSize) -> None:
    torch.manual_seed(0)
    encoder = Sam3dEncoder(size)
    encoder(volumes(1, side=size.image_size)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_volume_is_encoded_alike_alone_and_in_a_batch() -> None:
    encoder = small_parts().image_encoder.eval()
    batch = torch.cat([volumes(), volumes().flip(0)])
    with torch.no_grad():
        together, alone = encoder(batch), encoder(batch[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[:1], together[3:], atol=1e-5, rtol=0)


def test_axes_of_the_embedding_are_those_of_the_volume() -> None:
    encoder = small_parts().image_encoder.eval()
    volume = volumes(1)
    for axis in range(3):
        changed = volume.clone()
        changed.select(2 + axis, 0).add_(50.0)  # the first layer along this axis, far away from the other end
        with torch.no_grad():
            moved = (encoder.patch_embed(changed) - encoder.patch_embed(volume)).abs().sum((0, 4))
        others = [other for other in range(3) if other != axis]
        assert (moved.sum(dim=others) > 0).tolist() == [True, False, False, False]


def test_tables_are_resized_at_load_and_window_tables_untouched() -> None:
    source, target = small_parts().image_encoder, Sam3dEncoder(SMALL, image_size=24)
    report = load_into(target, source.state_dict(), resize=resize_table_3d)
    assert not report.missing
    assert set(report.resized) == {"pos_embed"} | {f"blocks.1.attn.rel_pos_{axis}" for axis in "dhw"}
    assert torch.equal(target.blocks[0].attn.rel_pos_d, source.blocks[0].attn.rel_pos_d)
    assert target(volumes(1, side=24)).shape == (1, 48, 6, 6, 6)
    again = Sam3dEncoder(SMALL)
    assert load_into(again, source.state_dict(), resize=resize_table_3d).resized == ()
    torch.testing.assert_close(again(volumes()), source(volumes()))


def test_resizing_keeps_constant_tables_and_their_axes() -> None:
    constant = resize_table_3d("pos_embed", torch.full((1, 4, 4, 4, 3), 2.5), torch.Size((1, 9, 9, 9, 3)))
    torch.testing.assert_close(constant, torch.full((1, 9, 9, 9, 3), 2.5))
    ramp = torch.arange(4.0)[None, :, None, None, None].expand(1, 4, 4, 4, 2)  # along D alone
    resized = resize_table_3d("image_encoder.pos_embed", ramp, torch.Size((1, 8, 8, 8, 2)))
    assert resized is not None
    assert resized[0, :, 3, 5, 1].diff().gt(-1e-6).all()
    torch.testing.assert_close(resized, resized[:, :, :1, :1, :1].expand_as(resized))


@pytest.mark.parametrize(
    ("name", "have", "want"),
    [
        ("blocks.0.attn.qkv.weight", (6, 2), (12, 2)),
        ("pos_embed", (1, 4, 4, 4, 3), (1, 4, 4, 4, 5)),
        ("pos_embed", (1, 64, 64, 768), (1, 8, 8, 8, 768)),
        ("attn.rel_pos_d", (27, 64), (27, 80)),
    ],
)
def test_nothing_else_is_resized(name: str, have: tuple[int, ...], want: tuple[int, ...]) -> None:
    assert resize_table_3d(name, torch.zeros(have), torch.Size(want)) is None


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the patch"):
        Sam3dEncoder(SMALL, image_size=18)
    with pytest.raises(ValueError, match=r"volumes of \(1, 12, 12, 12\) for an encoder of \(1, 16, 16, 16\)"):
        small_parts().image_encoder(volumes(side=12))
    with pytest.raises(ConfigError, match="did you mean 'sam-med3d'"):
        sam3d_size("sam-med-3d")


@pytest.mark.parametrize("name", list(SAM3D_SIZES))
def test_the_table_of_sizes_is_consistent(name: str) -> None:
    size = sam3d_size(name)
    assert size.name == name
    assert size.width % size.num_heads == 0
    assert size.neck_width % 48 == 0
    assert max(size.global_blocks) == size.depth - 1
    assert size.image_size % size.patch == 0
    assert size.published_positions == (name == "sam-med3d")
