"""The gate and the selector, against the paper's formula written out per query."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling.transformer import Attention
from torch import Tensor
from torch.nn import functional as F

from medmoe_cli.core.models.sam_med3d_moe.fusion import fuse_masks
from medmoe_cli.core.models.sam_med3d_moe.gate import Gate, select
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.segmenter import Prompts
from tests.tools.sam_med3d import (
    EXPERTS,
    answered,
    mixed_volume_prompts,
    point_prompts,
    rows_of,
    small_expert,
    small_merged,
    small_model,
    volume_plan,
    volumes,
)


def test_gate_is_the_papers_formula() -> None:
    """2.2: P = LN(P + SA(P)), LN(P + CA(P, X)), LN(P + MLP(P)); X = LN(X + CA(X, P)); mean; two FC."""
    torch.manual_seed(0)
    merged = small_merged().eval()
    prompts, image_Q = mixed_volume_prompts(names=False)
    with torch.no_grad():
        found = answered(merged, volumes(), prompts, image_Q).routing["gate"].logits
        for row in range(prompts.num_queries):
            expected = _gate_by_hand(merged, rows_of(prompts, torch.tensor([row])), volumes()[image_Q[row]][None])
            torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


def _gate_by_hand(merged: SamMed3dMoe, prompts: Prompts, image_11SSS: Tensor) -> Tensor:
    encoder, gate = merged.prompt_encoder, merged.gate
    sparse, dense = encoder(
        prompts.points, prompts.point_labels, prompts.boxes, prompts.masks if prompts.has_mask[0] else None
    )
    tokens = sparse.values[0][sparse.used[0]]
    if not len(tokens):
        tokens = encoder.not_a_point_embed.weight
    image = (merged.image_encoder(image_11SSS) + dense).flatten(2)[0].t()
    places = encoder.dense_positions().flatten(2)[0].t()
    block, first = gate.block, tokens
    tokens = block.norm1(tokens + _attend(block.self_attn, tokens + first, tokens + first, tokens))
    tokens = block.norm2(tokens + _attend(block.cross_attn_token_to_image, tokens + first, image + places, image))
    tokens = block.norm3(tokens + block.mlp.lin2(F.relu(block.mlp.lin1(tokens))))
    image = block.norm4(image + _attend(block.cross_attn_image_to_token, image + places, tokens + first, tokens))
    return gate.head[2](F.gelu(gate.head[0](image.mean(0))))


def _attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = []
    projected = [attention.q_proj(q), attention.k_proj(k), attention.v_proj(v)]
    for one_q, one_k, one_v in zip(*(part.chunk(attention.num_heads, dim=1) for part in projected), strict=True):
        heads.append((one_q @ one_k.t() / one_q.shape[1] ** 0.5).softmax(1) @ one_v)
    return attention.out_proj(torch.cat(heads, 1))


def test_a_gate_of_one_expert_is_not_constant() -> None:
    """With the paper's m answers a single expert would always score 1, and nothing could be learned."""
    merged = small_merged(experts=EXPERTS[:1])
    prompts = point_prompts(torch.rand(6, 1, 3, generator=torch.Generator().manual_seed(0)) * 32)
    image_Q = torch.arange(6) % 2
    logits = answered(merged, volumes(), prompts, image_Q).routing["gate"].logits
    assert logits.shape == (6, 2)
    assert float(logits.softmax(1)[:, 1].std()) > 1e-4


def test_a_gate_of_one_expert_learns_to_stay_shut() -> None:
    """General samples on bright places, the expert's on dark ones: both come out on their side of the threshold."""
    merged = small_merged(experts=EXPERTS[:1])
    images = torch.ones(2, 1, 32, 32, 32) * torch.tensor([1.0, -1.0])[:, None, None, None, None]
    images += 0.1 * volumes()
    prompts = point_prompts(torch.rand(8, 1, 3, generator=torch.Generator().manual_seed(3)) * 32)
    image_Q = torch.arange(8) % 2
    with torch.no_grad():
        features = merged.encode(images).take(image_Q)
    optimizer = torch.optim.Adam(merged.gate.parameters(), lr=1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(merged.decode(features, prompts).routing["gate"].logits, image_Q).backward()
        optimizer.step()
    opened = answered(merged, images, prompts, image_Q).routing["gate"].gates[:, 1] > 0
    assert torch.equal(opened, image_Q == 1)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5, 1.0])
def test_selector_per_query(activation: str, tau: float) -> None:
    logits = 2 * torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    routing = select(logits, tau=tau, activation=activation)  # type: ignore[arg-type]
    opened = 0
    for row in range(40):
        best = int(logits[row, 1:].argmax()) + 1
        if activation == "softmax":
            share = float(logits[row].softmax(0)[best])
        else:
            share = float((logits[row, best] - logits[row, 0]).sigmoid())
        joins = share > tau
        opened += joins
        assert routing.indices[row].tolist() == [0, best]
        assert routing.gates[row].tolist() == pytest.approx([1 - share, share] if joins else [1, 0], abs=1e-6)
    assert routing.load.tolist()[0] == 40
    assert sum(routing.load.tolist()[1:]) == opened
    assert (opened == 0) == (tau == 1.0)


@pytest.mark.parametrize("fuse", ["logits", "probabilities"])
@pytest.mark.parametrize("fusion", ["weighted", "average", "softmax"])
def test_fusion_is_the_formula(fuse: str, fusion: str) -> None:
    generator = torch.Generator().manual_seed(2)
    general, specific = (2 * torch.randn(3, 1, 4, 4, 4, generator=generator) for _ in range(2))
    share = torch.tensor([0.55, 0.8, 0.95])
    found = fuse_masks(general, specific, share, fuse=fuse, fusion=fusion)  # type: ignore[arg-type]
    for row in range(3):
        one, two, s = general[row].double(), specific[row].double(), float(share[row].double())
        if fuse == "probabilities":
            one, two = 1 / (1 + (-one).exp()), 1 / (1 + (-two).exp())
        if fusion == "average":
            s_map = torch.full_like(one, 0.5)
        elif fusion == "weighted":
            s_map = torch.full_like(one, s)
        else:
            s_map = two.exp() / (one.exp() + two.exp())
        mask = (1 - s_map) * one + s_map * two
        if fuse == "probabilities":
            mask = (mask / (1 - mask)).log()
        torch.testing.assert_close(found[row].double(), mask, atol=1e-4, rtol=1e-4)


def test_the_merged_answer_is_the_formula_over_its_parts() -> None:
    """(1 - s) M_g + s M_top where s > tau, M_g elsewhere, with the masks of the models it was merged from."""
    prompts, image_Q = mixed_volume_prompts(names=False)
    tops = answered(small_merged(), volumes(), prompts, image_Q).routing["gate"].logits.softmax(1)[:, 1:].amax(1)
    tau = float(tops.sort().values[2:4].mean())
    merged, general, experts = _merged_and_parts(tau=tau)
    output = answered(merged, volumes(), prompts, image_Q)
    masks = [answered(model, volumes(), prompts, image_Q).logits for model in (general, *experts)]
    probabilities = output.routing["gate"].logits.softmax(1)
    opened = set()
    for row in range(prompts.num_queries):
        top = int(probabilities[row, 1:].argmax()) + 1
        s = float(probabilities[row, top])
        opened.add(s > tau)
        expected = (1 - s) * masks[0][row] + s * masks[top][row] if s > tau else masks[0][row]
        torch.testing.assert_close(output.logits[row], expected, atol=1e-5, rtol=1e-4)
    assert opened == {True, False}, "both branches were seen"


def _merged_and_parts(*, tau: float) -> tuple[SamMed3dMoe, SamMed3dMoe, list[SamMed3dMoe]]:

    merged = small_merged(tau=tau)
    tensors = merged.state_dict()
    general = small_model()
    general.load_state_dict({name: tensors[name] for name in general.state_dict()})
    experts = []
    for index, entry in enumerate(EXPERTS):
        classes = entry["classes"]
        assert isinstance(classes, list)
        expert = small_expert(general, plan=volume_plan(labels=classes))
        own = {name: tensors.get(f"experts.{index}.{name}", tensors.get(name)) for name in expert.state_dict()}
        expert.load_state_dict(own)
        experts.append(expert)
    return merged, general, experts


def test_fused_masks_teach_the_gate() -> None:
    for tau, reaches in ((0.0, True), (1.0, False)):
        merged = small_merged(tau=tau).train()
        prompts, image_Q = mixed_volume_prompts(names=False)
        merged.decode(merged.encode(volumes()).take(image_Q), prompts).logits.square().mean().backward()
        gradients = [parameter.grad for parameter in merged.gate.parameters()]
        assert all(gradient is not None for gradient in gradients), "shut or open, every parameter takes part"
        assert (max(float(one.abs().max()) for one in gradients if one is not None) > 0) == reaches


def test_freezing_keeps_the_choice_while_clicks_are_added() -> None:
    points = torch.rand(1, 5, 3, generator=torch.Generator().manual_seed(5)) * 32
    for frozen in (None, 1, 2):
        merged = small_merged(gate_freeze_after=frozen, tau=0.0)
        choices = []
        for clicks in range(1, 6):
            prompts = point_prompts(points[:, :clicks])
            if clicks > 1:
                mask = torch.full((1, 1, 16, 16, 16), float(clicks))
                prompts = _with_mask(prompts, mask)
            choices.append(answered(merged, volumes(), prompts, torch.tensor([0])).routing["gate"].logits)
        stays = [torch.allclose(choice, choices[0], atol=1e-6) for choice in choices]
        if frozen is None:
            assert stays == [True, False, False, False, False]
        else:
            same_as_last = [torch.allclose(choice, choices[-1], atol=1e-6) for choice in choices]
            assert same_as_last == [clicks >= frozen for clicks in range(1, 6)]


def test_freezing_counts_a_box_as_a_prompt() -> None:
    merged = small_merged(gate_freeze_after=1, tau=0.0)
    box = torch.tensor([[4.0, 5.0, 6.0, 20.0, 21.0, 22.0]])
    choices = []
    for clicks in (0, 2):
        prompts = point_prompts(torch.full((1, clicks, 3), 12.0))
        prompts = type(prompts)(
            points=prompts.points,
            point_labels=prompts.point_labels,
            boxes=box,
            masks=None,
            has_mask=prompts.has_mask,
            class_index=prompts.class_index,
        )
        choices.append(answered(merged, volumes(), prompts, torch.tensor([0])))
    torch.testing.assert_close(choices[0].routing["gate"].logits, choices[1].routing["gate"].logits)
    assert float((choices[0].logits - choices[1].logits).abs().max()) > 1e-4, "the mask does follow the clicks"


def _with_mask(prompts: Prompts, masks: Tensor) -> Prompts:
    return type(prompts)(
        points=prompts.points,
        point_labels=prompts.point_labels,
        boxes=prompts.boxes,
        masks=masks,
        has_mask=torch.ones(prompts.num_queries, dtype=torch.bool),
        class_index=prompts.class_index,
    )


def test_size_of_the_papers_gate() -> None:
    """About three million parameters at SAM-Med3D's width (the paper gives no number)."""
    with torch.device("meta"):
        gate = Gate(384, num_experts=15, hidden=384, heads=8, mlp=2048, pooling="mean")
    assert sum(parameter.numel() for parameter in gate.parameters()) == pytest.approx(2.6e6, rel=0.15)
