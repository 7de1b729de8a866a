"""Progressive prompt tokenization: who gets its tokens, and what they are made of."""

from __future__ import annotations

from dataclasses import replace

import torch

from medmoe_cli.core.models.segmote.ppt import PromptTokenizer
from medmoe_cli.core.models.segmote.prompting import encode_prompts
from medmoe_cli.core.nn.segmenter import Prompts
from tests.tools.segmote import mixed_prompts, small_images, small_plan, small_segmote


def _prompt_tokens(prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
    model = small_segmote(ppt="on").eval()
    _, image_Q = mixed_prompts()
    with torch.no_grad():
        embedding = model.encode(small_images()).take(image_Q).maps["embedding"]
        encoded = encode_prompts(
            prompts, prompt_encoder=model.prompt_encoder, text=model.text, tokenizer=model.ppt, embedding_QDhw=embedding
        )
    return encoded.tokens[:, -2:], encoded.used[:, -2:]


def test_only_queries_without_point_and_box_prompt_themselves() -> None:
    prompts, _ = mixed_prompts()
    tokens, used = _prompt_tokens(prompts)
    assert used.any(dim=1).tolist() == [False, False, True, True, False, False, True, True, True]
    assert torch.equal(used[:, 0], used[:, 1])
    assert (tokens[~used] == 0).all()
    assert tokens[used].abs().max() > 0


def test_tokens_follow_the_image_and_the_priors() -> None:
    prompts, _ = mixed_prompts()
    tokens, _ = _prompt_tokens(prompts)
    none_here, none_there = tokens[3], tokens[7]
    assert (none_here - none_there).abs().max() > 1e-3
    without_text, _ = _prompt_tokens(replace(prompts, class_index=torch.full_like(prompts.class_index, -1)))
    assert (without_text[2] - tokens[2]).abs().max() > 1e-3
    assert torch.equal(without_text[3], tokens[3])
    without_mask, _ = _prompt_tokens(replace(prompts, has_mask=torch.zeros_like(prompts.has_mask)))
    assert (without_mask[6] - tokens[6]).abs().max() > 1e-4
    torch.testing.assert_close(without_mask[6], tokens[7])  # the same image, and now the same lack of a prior


def test_no_query_and_moved_content() -> None:
    torch.manual_seed(0)
    tokenizer = PromptTokenizer(width=16, num_queries=3, grid=(4, 4))
    empty = tokenizer(torch.zeros(0, 16, 4, 4), torch.zeros(0, 16))
    assert empty.shape == (0, 3, 16)
    empty.sum().backward()
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())
    image = torch.zeros(1, 16, 4, 4)
    image[0, :8, 0, 0] = 5
    moved = image.flip(3)
    with torch.no_grad():
        assert (tokenizer(image, torch.zeros(1, 16)) - tokenizer(moved, torch.zeros(1, 16))).abs().max() > 1e-4


def test_binary_plans_have_it_and_multi_class_plans_do_not() -> None:
    assert small_segmote(plan=small_plan(labels=1)).ppt is not None
    assert small_segmote(plan=small_plan(labels=3)).ppt is None
    assert small_segmote(plan=small_plan(labels=1), ppt="off").ppt is None
    assert small_segmote(ppt="on", ppt_queries=5).ppt.queries.shape[0] == 5
