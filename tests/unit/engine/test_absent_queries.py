"""Names of what is not there: asked for in training by share, in validation all, and answered by nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.engine.batch import Item
from medmoe_cli.core.engine.loader import DrawDataset, Loading
from medmoe_cli.core.engine.losses import Target, combine
from medmoe_cli.core.engine.order import Draw
from medmoe_cli.core.engine.prompting import PromptChooser
from medmoe_cli.core.imaging.sample import Sample
from medmoe_cli.core.nn.segmenter import Output

VALUES = (1, 2, 3, 4, 5, 6)
TEXT = PromptChooser(name="text", mix={"text": 1.0}, mask_size=(4, 4), random=True)
BOX = PromptChooser(name="mix", mix={"text": 0.5, "box": 0.5}, mask_size=(4, 4), random=True)


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Copies of a slice that shows some classes, or none."""

    shown: tuple[int, ...] = (1, 3, 4)
    known: tuple[int, ...] | None = None
    asked: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return 300

    def key(self, index: int) -> str:
        return f"case:{index}"

    def classes(self, index: int) -> tuple[int, ...]:
        return self.shown

    def load(self, index: int, *, seed: int | None) -> Sample:
        label = np.zeros((16, 16), np.int32)
        for place, value in enumerate(self.shown):
            label[4 * place : 4 * place + 2, 2:9] = value
        return Sample(
            image=np.zeros((1, 16, 16), np.float32),
            label=label,
            valid=np.ones((16, 16), bool),
            case_id="case",
            index=index,
            known=self.known,
            asked=self.asked,
        )


def loaded(source: Slices, index: int = 0, **keys: object) -> Item:
    settings: dict[str, object] = {
        "source": source,
        "values": VALUES,
        "seed": 5,
        "max_queries": 4,
        "choosers": (TEXT,),
        "cache": None,
        "augment": True,
        "absent_share": 0.3,
        **keys,
    }
    item = DrawDataset(Loading(**settings))[Draw(index=index, epoch=0, repeat=0)]  # type: ignore[arg-type]
    assert isinstance(item, Item)
    return item


def test_absent_names_get_empty_masks_and_their_share() -> None:
    asked = [query for index in range(300) for query in loaded(Slices(), index).queries]
    for query in asked:
        assert query.mask.any() == (query.value in (1, 3, 4))
        assert query.prompts[0].class_index == query.value - 1
    absent = sum(not query.mask.any() for query in asked) / len(asked)
    assert absent == pytest.approx(0.3, abs=0.06)
    assert {query.value for query in asked} == set(VALUES)


def test_the_same_draw_asks_the_same() -> None:
    def names(seed: int) -> list[list[int]]:
        return [[query.value for query in loaded(Slices(), index, seed=seed).queries] for index in range(20)]

    assert names(5) == names(5)
    assert names(5) != names(6)


def test_an_image_without_anything_is_asked_for_what_is_not_there() -> None:
    for index in range(20):
        queries = loaded(Slices(shown=()), index).queries
        assert queries
        assert not any(query.mask.any() for query in queries)


def test_a_class_that_was_not_looked_for_is_not_absent() -> None:
    values = {query.value for i in range(60) for query in loaded(Slices(known=(1, 2, 3, 4)), i).queries}
    assert values == {1, 2, 3, 4}
    values = {query.value for i in range(60) for query in loaded(Slices(asked=(1, 5)), i).queries}
    assert values == {1, 5}


@pytest.mark.parametrize("keys", [{"absent_share": 0.0}, {"choosers": (BOX,)}])
def test_only_names_can_ask_for_what_is_not_there(keys: dict[str, object]) -> None:
    for index in range(30):
        assert all(query.mask.any() for query in loaded(Slices(), index, **keys).queries)


def test_validation_asks_for_every_class() -> None:
    item = loaded(Slices(), max_queries=None, augment=False, all_absent=True)
    assert [query.value for query in item.queries] == list(VALUES)


def test_presence_is_learned_from_whether_anything_is_there() -> None:
    masks = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, 1, 1] = masks[1, 0, 3, 3] = True
    valid = torch.ones(3, 4, 4, dtype=torch.bool)
    valid[1, 3] = False  # what the second one shows lies on padding
    logits = torch.tensor([4.0, -4.0, -4.0], requires_grad=True)
    output = Output(logits=torch.zeros(3, 1, 4, 4), scores=logits.sigmoid(), score_logits=logits)
    right = combine(output, Target(masks=masks, valid=valid), {"presence": 1.0})["presence"]
    assert float(right.detach()) < 0.02
    wrong = Output(logits=torch.zeros(3, 1, 4, 4), score_logits=-logits)
    assert float(combine(wrong, Target(masks=masks, valid=valid), {"presence": 1.0})["presence"].detach()) > 3
    with pytest.raises(ConfigError, match="presence"):
        combine(Output(logits=torch.zeros(3, 1, 4, 4)), Target(masks=masks, valid=valid), {"presence": 1.0})


def test_presence_weighs_what_is_rare_as_much_as_what_is_common() -> None:
    """Where nothing tells nine that are there from the one that is not, one half is claimed of all."""
    masks = torch.ones(10, 1, 2, 2, dtype=torch.bool)
    masks[7] = False
    logits = torch.zeros(10, requires_grad=True)
    output = Output(logits=torch.zeros(10, 1, 2, 2), score_logits=logits)
    target = Target(masks=masks, valid=torch.ones(10, 2, 2, dtype=torch.bool))
    combine(output, target, {"presence": 1.0})["presence"].backward()
    assert logits.grad is not None
    assert float(logits.grad.sum()) == pytest.approx(0, abs=1e-7)
    assert float(logits.grad[7]) > 0


def test_dice_of_an_empty_target_asks_for_emptiness() -> None:
    masks, valid = torch.zeros(1, 1, 8, 8, dtype=torch.bool), torch.ones(1, 8, 8, dtype=torch.bool)
    values = []
    for level in (-9.0, -3.0, 0.0, 3.0):
        logits = torch.full((1, 1, 8, 8), level, requires_grad=True)
        loss = combine(Output(logits=logits), Target(masks=masks, valid=valid), {"dice": 1.0})["dice"]
        loss.backward()
        assert logits.grad is not None
        assert bool((logits.grad > 0).all())
        values.append(float(loss))
    assert values == sorted(values)
    assert values[0] < 0.01
