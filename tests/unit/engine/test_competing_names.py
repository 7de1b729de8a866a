"""Models whose names compete: what is answered to a name alone and in company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.inference import Answer, Inference, choices
from medmoe_cli.core.models.da_sam3.model import DaSam3
from tests.tools.da_sam3 import NAMES, ask, small_da_sam3, small_images

LOSSES = {"batch_dice": 1.0, "choice": 1.0, "presence": 1.0}


def asking(*index: int, queries_per_batch: int = 2, model: DaSam3 | None = None) -> Answer:
    segmenter = model or competing()
    inference = Inference(
        segmenter, compute=resolve_compute("cpu", "32"), batch_size=1, queries_per_batch=queries_per_batch
    )
    (features,) = inference.encode([small_images(1)[0].numpy()])
    return inference.answer(features, ask(*index))


def competing() -> DaSam3:
    model = small_da_sam3(learned=True, losses=LOSSES)
    model.concepts(["some mass"])
    return model


def test_names_compete_where_they_were_trained_to() -> None:
    assert competing().rivals == len(NAMES)
    assert small_da_sam3().rivals == 0


def test_a_name_is_answered_alike_alone_and_in_company_to_the_last_bit() -> None:
    together = asking(2, 0, len(NAMES), 1)
    for row, name in enumerate((2, 0, len(NAMES), 1)):
        alone = asking(name)
        assert alone.probabilities.shape == together.probabilities[[row]].shape
        assert together.scores is not None
        assert alone.scores is not None
        if name < len(NAMES):
            assert np.array_equal(alone.probabilities[0], together.probabilities[row])
            assert alone.scores[0] == together.scores[row]
        else:
            assert np.abs(alone.probabilities[0] - together.probabilities[row]).max() <= 1e-6


def test_of_competing_names_and_none_one_is_right() -> None:
    total = asking(*range(len(NAMES))).probabilities.sum(0)
    assert (total < 1).all()
    assert (total > 0).all()


def test_other_words_are_judged_by_themselves() -> None:
    model = competing()
    lone = small_da_sam3(learned=True)
    lone.concepts(["some mass"])
    lone.load_state_dict(model.state_dict())
    words = len(NAMES)
    expected = asking(words, model=lone).probabilities
    assert np.allclose(asking(words, 1, model=model).probabilities[0], expected[0], atol=1e-6)
    known = asking(1, model=lone).probabilities
    assert (asking(1, model=model).probabilities <= known + 1e-6).all()


def test_routing_is_that_of_the_names_that_were_asked_for() -> None:
    every = asking(*range(len(NAMES)))
    one = asking(1)
    for place, routing in one.routing.items():
        rows = len(every.routing[place].indices) // len(NAMES)
        assert len(routing.indices) == rows
        assert torch.equal(routing.indices, every.routing[place].indices[rows : 2 * rows])


def test_choices_are_a_softmax_with_none() -> None:
    logits = torch.randn(4, 1, 3, 3)
    found = choices(logits, rivals=3)
    expected = torch.cat([torch.zeros(1, 1, 3, 3), logits[:3]]).softmax(0)[1:]
    torch.testing.assert_close(found[:3], expected)
    assert float(found[3, 0, 0, 0]) == pytest.approx(float(logits[3, 0, 0, 0].sigmoid()))
