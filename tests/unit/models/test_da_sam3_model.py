"""DA-SAM3 as a whole: one vision pass for any number of names, words that no training named, stages."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.engine import optim
from medmoe_cli.core.models.da_sam3.answer import union
from medmoe_cli.core.models.da_sam3.explain import reasons
from medmoe_cli.core.models.da_sam3.model import DaSam3
from tests.tools.da_sam3 import ask, small_config, small_da_sam3, small_images, small_plan


def counted(model: DaSam3, name: str) -> list[int]:
    """How many items pass a module, per call."""
    calls: list[int] = []

    def count(_: Any, arguments: tuple[Tensor, ...], kwargs: dict[str, Tensor], __: Any) -> None:
        first = arguments[0] if arguments else next(iter(kwargs.values()))
        calls.append(len(first))

    model.get_submodule(name).register_forward_hook(count, with_kwargs=True)
    return calls


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_all_names_of_an_image_share_one_vision_pass(stem: str) -> None:
    model = small_da_sam3(stem=stem).eval()
    calls = counted(model, "sam3.vision_encoder.backbone.layers.0")
    features = model.encode(small_images(1))
    model.decode(features.take(torch.zeros(3, dtype=torch.long)), ask(0, 1, 2))
    model.decode(features, ask(2))
    assert calls == [1]


def test_an_answer_does_not_depend_on_the_names_beside_it() -> None:
    model = small_da_sam3(learned=True).eval()
    model.concepts(["a very long description of some structure that is not a class", "aorta"])
    features = model.encode(small_images(1))
    names = [3, 1, 0, 4, 2]
    with torch.no_grad():
        together = model.decode(features.take(torch.zeros(5, dtype=torch.long)), ask(*names))
        for row, name in enumerate(names):
            alone = model.decode(features, ask(name))
            assert float((alone.logits[0] - together.logits[row]).abs().max()) <= 1e-5
            assert alone.scores is not None
            assert together.scores is not None
            assert float((alone.scores[0] - together.scores[row]).abs()) <= 1e-5
        model.concepts([])
        fewer = model.decode(features, ask(1))
    assert float((fewer.logits[0] - together.logits[1]).abs().max()) <= 1e-5


def test_names_differ_in_their_answers() -> None:
    model = small_da_sam3(learned=True).eval()
    features = model.encode(small_images(1))
    with torch.no_grad():
        logits = model.decode(features.take(torch.zeros(3, dtype=torch.long)), ask(0, 1, 2)).logits
    assert min(float((logits[one] - logits[other]).abs().max()) for one, other in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_texts_are_encoded_once_while_nothing_changes() -> None:
    model = small_da_sam3().eval()
    calls = counted(model, "sam3.text_encoder")
    features = model.encode(small_images(1))
    with torch.inference_mode():
        model.decode(features, ask(0))
        model.decode(features, ask(1))
    assert calls == [3]
    model.concepts(["aorta"])
    model.concepts(["aorta"])
    with torch.inference_mode():
        model.decode(features, ask(3))
    assert calls == [3, 4]
    with torch.no_grad():
        next(iter(model.sam3.text_projection.parameters())).add_(0.1)
        model.decode(features, ask(0))
    assert calls == [3, 4, 4], "features of older weights were used"


def test_frozen_texts_train_nothing_and_are_kept_in_training() -> None:
    model = small_da_sam3(stem="patch")
    optim.apply_stage(model, model.stages()[0])
    calls = counted(model, "sam3.text_encoder")
    with torch.inference_mode():
        model.decode(model.encode(small_images(1)), ask(0))
    for _ in range(2):  # the kept features come from inference, and are used where gradients flow
        model.decode(model.encode(small_images(1)), ask(0)).logits.sum().backward()
    assert calls == [3]


def test_training_texts_get_gradients() -> None:
    model = small_da_sam3(train_backbone=True)
    optim.apply_stage(model, model.stages()[0])
    model.decode(model.encode(small_images()), ask(1, 1)).logits.square().sum().backward()
    weight = model.sam3.text_projection.weight
    assert weight.grad is not None
    assert float(weight.grad.abs().max()) > 0


def test_a_name_without_words_and_a_query_without_a_name_are_refused() -> None:
    model = small_da_sam3().eval()
    with pytest.raises(ConfigError, match="nothing to look for"):
        model.concepts(["liver", "_ _"])
    with pytest.raises(ConfigError, match="without a name"):
        model.decode(model.encode(small_images(1)), ask(-1))


def test_class_names_are_read_as_words_and_prompts_take_their_place() -> None:
    plan = small_plan().model_copy(update={"class_prompts": {"spleen": "the spleen"}})
    assert small_da_sam3(plan=plan).concepts_known.texts == ("liver", "left kidney", "the spleen")


def test_the_second_stage_changes_routers_and_nothing_else() -> None:
    model = small_da_sam3(learned=True, train_backbone=True)
    adapt, calibrate = model.stages()
    assert (adapt.name, calibrate.name) == ("adapt", "calibrate")
    assert adapt.share + calibrate.share == pytest.approx(1)
    parameters = optim.apply_stage(model, calibrate)
    before = {name: _digest(tensor) for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=1e-2, weight_decay=0.1)
    for step in range(2):
        output = model.decode(model.encode(small_images()), ask(0, step))
        (output.logits.square().mean() + sum(output.aux_losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, tensor in model.state_dict().items() if _digest(tensor) != before[name]}
    assert changed
    assert all(".router." in name for name in changed)


@pytest.mark.parametrize("keys", [{"router": "random"}, {"experts": "lora"}, {"experts": "none"}, {"calibrate": False}])
def test_without_routers_to_calibrate_there_is_one_stage(keys: dict[str, object]) -> None:
    assert [stage.name for stage in small_da_sam3(**keys).stages()] == ["adapt"]


def test_the_paper_trains_experts_routers_and_norms_alone() -> None:
    model = small_da_sam3(stem="patch")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    for name in trained:
        assert name.startswith("sam3.detr_encoder.layers.")
        assert any(part in name for part in (".experts.", ".router.", ".layer_norm"))
    norms = {name for name in trained if ".layer_norm" in name}
    assert len(norms) == 4 * 3 * 2


def test_images_of_other_sizes_and_channels_are_shown_at_the_models_own() -> None:
    model = small_da_sam3(plan=small_plan(size=36, channels=2)).eval()
    assert model.shown_size == 40
    features = model.encode(small_images(channels=2, size=36))
    assert features.maps["level2"].shape[-1] == 5
    assert model.decode(features, ask(0, 1)).logits.shape == (2, 1, 36, 36)


@pytest.mark.parametrize(("size", "shown"), [(224, 336), (256, 336), (336, 336), (512, 672), (1024, 1008)])
def test_the_published_model_is_shown_whole_windows(size: int, shown: int) -> None:
    config = type(small_config())(backbone="sam3")
    assert config.shown_size(size) == shown
    assert str(shown) in reasons(config, small_plan(size=size))["image_size"]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"backbone": "sam3", "image_size": 500}, "336, 672 and 1008"),
        ({"num_experts": 2, "top_k": 3}, "more than num_experts"),
        ({"fusion_layers": 2}, "too few"),
        ({"moe_layers": [7]}, "layer 7 of 4"),
        ({"patch_size": 12}, "power of two"),
        ({"finest_stride": 4}, "finest_stride 4"),
        ({"losses": {"dice": -1.0}}, "negative"),
    ],
)
def test_settings_that_do_not_go_together(keys: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        small_config(**keys)


def test_the_union_of_instances() -> None:
    masks = torch.tensor([[[[2.0]], [[-1.0]]]])
    scores, presence = torch.tensor([[1.0, -2.0]]), torch.tensor([0.5])
    weights = scores.sigmoid() * presence.sigmoid()
    expected = 1 - (1 - weights[0, 0] * torch.tensor(2.0).sigmoid()) * (
        1 - weights[0, 1] * torch.tensor(-1.0).sigmoid()
    )
    torch.testing.assert_close(union(masks, scores, presence).sigmoid().squeeze(), expected)
    sure = union(torch.full((1, 2, 1, 1), 50.0), torch.full((1, 2), 50.0), torch.tensor([50.0]))
    assert torch.isfinite(sure).all()


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()
