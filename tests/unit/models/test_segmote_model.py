"""SegMoTE as a whole: channels, feature caches, isolation, heat, precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medmoe_cli.core.models.segmote.model import Segmote
from medmoe_cli.core.nn.segmenter import Features, Output
from tests.tools.segmote import mixed_prompts, small_images, small_plan, small_segmote


def _answer(model: Segmote, **prompt_changes: object) -> Output:
    prompts, image_Q = mixed_prompts(text=model.text is not None)
    prompts = replace(prompts, **prompt_changes)
    with torch.no_grad():
        return model.decode(model.encode(small_images()).take(image_Q), prompts)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_any_number_of_channels(channels: int) -> None:
    model = small_segmote(plan=small_plan(channels=channels)).eval()
    images = small_images(channels=channels)
    with torch.no_grad():
        reference = model.encode(images).maps["embedding"]
        for channel in range(channels):
            changed = images.clone()
            changed[:, channel] = 1 - changed[:, channel]
            assert (model.encode(changed).maps["embedding"] - reference).abs().max() > 1e-3, channel
    learned = channels not in (1, 3)
    assert model.encoder_is_frozen(model.stages()[0]) == (not learned)
    if learned:
        assert model.channel_mix is not None
        torch.testing.assert_close(model.channel_mix.weight.sum(dim=1), torch.ones(3, 1, 1))


def test_a_half_precision_cache_of_a_frozen_encoder_serves() -> None:
    model = small_segmote().eval()
    assert model.encoder_is_frozen(model.stages()[0])
    prompts, image_Q = mixed_prompts()
    with torch.no_grad():
        features = model.encode(small_images())
        assert set(features.maps) == {"embedding", "early"}
        cached = Features(
            maps={name: tensor.half() for name, tensor in features.maps.items()}, input_size=features.input_size
        )
        exact = model.decode(features.take(image_Q), prompts)
        found = model.decode(cached.take(image_Q), prompts)
    assert found.logits.dtype == torch.float32
    same = exact.routing["token"].indices == found.routing["token"].indices
    assert same.float().mean() > 0.5
    difference = (exact.logits - found.logits).abs().amax(dim=(1, 2, 3))
    assert difference[same[:, 0]].max() < 0.05 * exact.logits.abs().max()


@pytest.mark.parametrize(
    "keys", [{}, {"stem": "conv", "draw_prompts": True, "region_refinement": True}], ids=["plain", "tiny"]
)
def test_bf16_autocast_runs_forward_and_backward_and_stays_near(keys: dict[str, object]) -> None:
    model = small_segmote(ppt="on", train_encoder=True, train_decoder=True, **keys)
    prompts, image_Q = mixed_prompts()
    model.eval()
    with torch.no_grad():
        exact = model.decode(model.encode(small_images()).take(image_Q), prompts)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model.decode(model.encode(small_images()).take(image_Q), prompts)
    assert rough.logits.dtype == torch.float32
    same = (exact.routing["token"].indices == rough.routing["token"].indices)[:, 0]
    difference = (exact.logits - rough.logits)[same].abs()
    assert difference.mean() < 0.05 * exact.logits.std()
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model.decode(model.encode(small_images()).take(image_Q), prompts)
        loss = output.logits.sigmoid().mean() + sum(output.aux_losses.values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_training_encoder_makes_the_detail_once_per_image() -> None:
    model = small_segmote(train_encoder=True)
    assert set(model.encode(small_images()).maps) == {"embedding", "detail"}
    assert not model.encoder_is_frozen(model.stages()[0])
    assert set(small_segmote(high_res_features=False).encode(small_images()).maps) == {"embedding"}


def test_early_features_reach_the_mask() -> None:
    model = small_segmote().eval()
    prompts, image_Q = mixed_prompts()
    with torch.no_grad():
        features = model.encode(small_images())
        changed = replace(features, maps={**features.maps, "early": features.maps["early"] + 1})
        difference = (
            model.decode(features.take(image_Q), prompts).logits - model.decode(changed.take(image_Q), prompts).logits
        )
    assert difference.abs().max() > 1e-3


def test_isolated_experts_leave_sam_alone_and_others_do_not() -> None:
    prompts, image_Q = mixed_prompts(text=False)
    for isolate in (True, False):
        model = small_segmote(isolate_experts=isolate, text="none").eval()
        with torch.no_grad():
            features = model.encode(small_images()).take(image_Q)
            before = model.sam_masks(features, prompts)
            answer = model.decode(features, prompts).logits
            model.mote.tokens.mul_(-1)
            after = model.sam_masks(features, prompts)
            assert torch.equal(before.logits, after.logits) == isolate
            assert torch.equal(before.scores, after.scores) == isolate
            assert (model.decode(features, prompts).logits - answer).abs().max() > 1e-3


def test_heat_is_where_the_chosen_token_looks() -> None:
    model = small_segmote().eval()
    asked: list[torch.Tensor] = []
    attention = model.mask_decoder.transformer.final_attn_token_to_image
    attention.q_proj.register_forward_hook(lambda module, inputs, output: asked.append(inputs[0]))
    output = _answer(model)
    all_tokens, heat_tokens = asked  # the attention itself, then its map
    chosen = output.routing["token"].indices[:, 0]
    assert len(set(chosen.tolist())) > 1
    torch.testing.assert_close(heat_tokens, all_tokens[torch.arange(9), 5 + chosen])
    assert output.heat is not None
    assert output.heat.shape == (9, 4, 4)
    torch.testing.assert_close(output.heat.sum(dim=(1, 2)), torch.ones(9))
    assert output.heat.std(dim=0).max() > 0
    training = small_segmote().train()
    assert training.decode(*_encoded(training)).heat is None


def test_routing_names_token_and_experts_of_each_query() -> None:
    output = _answer(small_segmote(num_tokens=3, num_experts=5, top_k=2).eval())
    assert set(output.routing) == {"layer1", "layer2", "token"}
    assert output.routing["token"].indices.shape == (9, 1)
    assert output.routing["token"].probabilities.shape == (9, 3)
    for layer in ("layer1", "layer2"):
        assert output.routing[layer].indices.shape == (27, 2)
        assert output.routing[layer].load.sum() == 54
    # The confidence that chooses is the last layer's.
    last = output.routing["layer2"].logits.amax(dim=1).reshape(9, 3)
    assert torch.equal(output.routing["token"].indices[:, 0], last.argmax(dim=1))


def test_balance_weights_scale_and_switch_off() -> None:
    model = small_segmote(balance_weight=0.0, token_balance_weight=0.5).train()
    assert set(model.decode(*_encoded(model)).aux_losses) == {"token_balance"}
    one, ten = (small_segmote(balance_weight=weight).train() for weight in (0.01, 0.1))
    losses = []
    for model in (one, ten):
        torch.manual_seed(4)
        losses.append(model.decode(*_encoded(model)).aux_losses["expert_balance"].detach())
    torch.testing.assert_close(losses[1], 10 * losses[0])


def test_the_score_follows_the_chosen_token() -> None:
    model = small_segmote().eval()
    reference = _answer(model)
    with torch.no_grad():
        model.mask_decoder.iou_prediction_head.layers[0].weight.add_(1)  # SAM's own: not asked
    assert reference.scores is not None
    assert torch.equal(_answer(model).scores, reference.scores)
    with torch.no_grad():
        model.score_head.layers[-1].bias.add_(100)
    torch.testing.assert_close(_answer(model).scores, torch.ones(9))


def _encoded(model: Segmote) -> tuple[Features, object]:
    prompts, image_Q = mixed_prompts()
    return model.encode(small_images()).take(image_Q), prompts
