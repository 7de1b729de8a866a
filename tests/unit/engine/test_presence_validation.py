"""Validation gives a mask as prediction does: none where the model says that nothing is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.loader import Loading
from medmoe_cli.core.engine.prompting import PromptChooser
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.engine.validate import Validation, validate
from medmoe_cli.core.imaging.sample import Sample
from medmoe_cli.core.models.da_sam3.model import DaSam3
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts
from tests.tools.da_sam3 import SIZE, small_config, small_plan


class Slices:
    """Slices of the same two organs."""

    def __len__(self) -> int:
        return 3

    def key(self, index: int) -> str:
        return f"case:{index}"

    def classes(self, index: int) -> tuple[int, ...]:
        return (1, 3)

    def load(self, index: int, *, seed: int | None) -> Sample:
        label = np.zeros((SIZE, SIZE), np.int32)
        label[: SIZE // 2] = 1
        label[SIZE // 2 :, : SIZE // 2] = 3
        return Sample(
            image=np.zeros((1, SIZE, SIZE), np.float32),
            label=label,
            valid=np.ones(label.shape, bool),
            case_id="case",
            index=index,
        )


class Everywhere(DaSam3):
    """Answers every name with the whole image, and claims the presence that it is told to claim."""

    claimed: tuple[int, ...] = ()

    def decode(self, features: Features, prompts: Prompts) -> Output:
        there = torch.tensor([int(index) in self.claimed for index in prompts.class_index])
        presence = torch.where(there, 5.0, -5.0)
        logits = torch.full((prompts.num_queries, 1, SIZE, SIZE), 3.0)
        return Output(logits=logits, scores=presence.sigmoid(), score_logits=presence)


def measured(*claimed: int) -> Validation:
    model = Everywhere(small_config(), small_plan())
    model.claimed = claimed
    (stage, _) = model.stages()
    loading = Loading(
        source=Slices(),
        values=(1, 2, 3),
        seed=0,
        max_queries=None,
        choosers=(PromptChooser(name="text", mix={"text": 1.0}, mask_size=model.mask_size, random=False),),
        cache=None,
        augment=False,
        all_absent=True,
    )
    with StopFlag() as stop:
        found = validate(
            model,
            stage,
            loading,
            compute=resolve_compute("cpu", "32"),
            batch_size=2,
            workers=0,
            limit=None,
            stop=stop,
        )
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("claimed", "text", "absent"),
    [((0, 2), (2 / 3 + 2 / 5) / 2, 1.0), ((0, 1, 2), (2 / 3 + 2 / 5) / 2, 0.0), ((), 0.0, 1.0), ((0,), 1 / 3, 1.0)],
)
def test_presence_empties_masks_and_absent_names_count(claimed: tuple[int, ...], text: float, absent: float) -> None:
    found = measured(*claimed)
    assert found.dice["text"] == pytest.approx(text)
    assert found.dice["absent"] == pytest.approx(absent)
    assert found.score == pytest.approx((text + absent) / 2)
    assert found.by_class["absent"] == {2: pytest.approx(absent)}
    assert found.num_instances == 6
