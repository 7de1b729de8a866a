"""Several models on one scan: averaged on its own pixels, whatever the size they see it at, in any order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medmoe_cli.core.data.prepare import prepare
from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.nn.prompts import QueryPrompt
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts
from medmoe_cli.core.workflows.predicting.panel import Member, align
from medmoe_cli.core.workflows.predicting.requests import FromClassNames, FromMasks, FromNothing, Request
from medmoe_cli.core.workflows.predicting.segmenting import segment, segment_together
from tests.tools.bands import Bands, bands_inference
from tests.tools.datasets import write_nifti
from tests.tools.oracle import Oracle, oracle_inference, oracle_plan

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])


@pytest.fixture
def scan(tmp_path: Path) -> Image:
    volume = np.zeros((40, 32, 6), np.float32)
    volume[6:16, 8:20, 1:5] = 0.5
    volume[24:34, 10:24, 2:5] = 1
    write_nifti(tmp_path / "scan.nii.gz", volume, AFFINE)
    return read_image(tmp_path / "scan.nii.gz")


class Sure(Oracle):
    """Gives everything one probability, and writes down what it was prompted with."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.logit = float(np.log(probability / (1 - probability)))
        self.asked: list[Prompts] = []

    def decode(self, features: Features, prompts: Prompts) -> Output:
        self.asked.append(prompts)
        logits = torch.full_like(features.maps["image"], self.logit)
        return Output(logits=logits, low_res_logits=logits[..., :16, :16], scores=logits.flatten(1).mean(1).sigmoid())


def sure(probability: float) -> Inference:
    return Inference(Sure(probability), compute=resolve_compute("cpu", "32"), batch_size=1, queries_per_batch=8)


def automatic(scan: Image, size: int, segmenter: Bands, channels: tuple[int, ...] | None = None) -> Member:
    prepared = prepare(scan, oracle_plan(input_size=size, labels={"a": 1, "b": 2}))
    requests = FromNothing(value=0).requests("", prepared)
    return Member(prepared=prepared, requests=requests, inference=bands_inference(segmenter), channels=channels)


def probabilities(members: list[Member]) -> NDArray[np.float16]:
    fit = members[0].prepared.fit
    store = np.zeros((2, members[0].prepared.num_slices, fit.rows, fit.cols), np.float16)
    segment_together(members, threshold=0.5, probabilities=store)
    return store


def test_softmax_maps_are_averaged_on_the_scans_own_pixels(scan: Image) -> None:
    small, large = automatic(scan, 64, Bands(tilt=8.0)), automatic(scan, 96, Bands(tilt=-3.0))
    alone = [probabilities([one]).astype(np.float32) for one in (small, large)]
    together = probabilities([small, large]).astype(np.float32)
    np.testing.assert_allclose(together, (alone[0] + alone[1]) / 2, atol=2e-3)
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    swapped = probabilities([large, small])
    np.testing.assert_array_equal(together.astype(np.float16), swapped)


def test_one_model_of_a_panel_is_that_model(scan: Image) -> None:
    one = automatic(scan, 64, Bands())
    result = segment_together([one], threshold=0.5)
    plain = segment(one.prepared, one.requests, one.inference, threshold=0.5)
    np.testing.assert_array_equal(result.labels_SHW, plain.labels_SHW)
    assert set(np.unique(plain.labels_SHW).tolist()) == {0, 1, 2}


def test_classes_in_another_order_are_matched_by_channel(scan: Image) -> None:
    """A model whose first class is the panel's second."""

    class Reversed(Bands):
        def decode(self, features: Features, prompts: Prompts) -> Output:
            output = super().decode(features, prompts)
            return replace(output, logits=output.logits[:, [0, 2, 1]])

    straight = automatic(scan, 64, Bands())
    crossed = automatic(scan, 64, Reversed(), channels=(0, 2, 1))
    np.testing.assert_array_equal(probabilities([crossed]), probabilities([straight]))
    np.testing.assert_array_equal(probabilities([straight, crossed]), probabilities([straight]))


def test_sigmoid_maps_are_averaged_per_request(scan: Image) -> None:
    members = []
    for size, probability in ((64, 0.9), (80, 0.3), (64, 0.6)):
        prepared = prepare(scan, oracle_plan(input_size=size, labels={"a": 1, "b": 2}))
        requests = FromClassNames(prepared.plan, ("b",)).requests("", prepared)
        members.append(Member(prepared=prepared, requests=requests, inference=sure(probability)))
    store = probabilities(members)
    assert not store[0].any()
    np.testing.assert_allclose(store[1].astype(float), 0.6, atol=1e-3)


def test_a_correction_click_lies_at_one_place_of_the_scan(scan: Image) -> None:
    reference = np.zeros((6, 32, 40), np.uint8)
    reference[2, 8:20, 6:16] = 1
    members = []
    for size in (64, 112):
        prepared = prepare(scan, oracle_plan(input_size=size, labels={"a": 1, "b": 2}))
        requests = FromMasks.simulated(reference, prepared, prepared.plan, kind="box", clicks=2, mask_size=(16, 16))
        members.append(Member(prepared=prepared, requests=requests, inference=sure(0.2)))
    segment_together(members, threshold=0.5)
    places = []
    for member in members:
        segmenter = member.inference.segmenter
        assert isinstance(segmenter, Sure)
        assert [int((one.point_labels >= 0).sum()) for one in segmenter.asked] == [0, 1, 2]
        last = segmenter.asked[-1]
        assert last.has_mask.all()
        places.append(member.prepared.fit.points_to_native(last.points[0][last.point_labels[0] >= 0].numpy()))
    np.testing.assert_allclose(places[0], places[1], atol=1e-4)
    assert (places[0] > [6, 8]).all()
    assert (places[0] < [16, 20]).all()


def test_correction_clicks_answer_the_average_not_one_member(scan: Image) -> None:
    """The first model alone misses everything; both together find everything, so the click says: less."""
    reference = np.zeros((6, 32, 40), np.uint8)
    reference[2, 8:20, 6:16] = 1
    prepared = prepare(scan, oracle_plan(input_size=64, labels={"a": 1}))
    requests = FromMasks.simulated(reference, prepared, prepared.plan, kind="box", clicks=1, mask_size=(16, 16))
    inferences = [sure(0.3), sure(0.9)]
    segment_together(
        [Member(prepared=prepared, requests=requests, inference=each) for each in inferences], threshold=0.5
    )
    segmenter = inferences[0].segmenter
    assert isinstance(segmenter, Sure)
    labels = segmenter.asked[-1].point_labels
    assert labels[labels >= 0].tolist() == [0]


def test_a_structure_is_followed_by_both(scan: Image) -> None:
    members, alone = [], []
    for size in (64, 96):
        prepared = prepare(scan, oracle_plan(input_size=size, labels={"a": 1, "b": 2}))
        x, y = prepared.fit.points_to_input(np.array([[28.5, 16.5]]))[0]
        prompt = QueryPrompt(box=(x - 2, y - 2, x + 2, y + 2))
        wide = QueryPrompt(box=(0, 0, size, size), class_index=prompt.class_index)
        request = Request(slice_index=3, value=2, prompt=wide, follow=True)
        members.append(Member(prepared=prepared, requests=(request,), inference=oracle_inference()))
        alone.append(segment(prepared, [request], oracle_inference(), threshold=0.5).labels_SHW)
    together = segment_together(members, threshold=0.5)
    found = np.unique(np.nonzero(together.labels_SHW)[0]).tolist()
    assert found == np.unique(np.nonzero(alone[0])[0]).tolist() == [2, 3, 4]
    assert together.num_requests == 3
    assert together.prompted == {2}
    agree = (together.labels_SHW == alone[0]) | (together.labels_SHW == alone[1])
    assert agree.all()


def test_a_structure_that_one_grid_is_too_coarse_for_is_answered_by_the_other(scan: Image) -> None:
    fine = prepare(scan, oracle_plan(input_size=64, labels={"a": 1}))
    coarse = prepare(scan, oracle_plan(input_size=32, labels={"a": 1}))
    shared = Request(slice_index=2, value=1, prompt=QueryPrompt())
    members = [
        Member(prepared=coarse, requests=(shared,), inference=sure(0.1)),
        Member(prepared=fine, requests=(shared, replace(shared, slice_index=4)), inference=sure(0.8)),
    ]
    wanted = align(members)
    assert [request is None for request in wanted[4][0].requests] == [True, False]
    result = segment_together(members, threshold=0.5)
    assert (result.labels_SHW[4] == 1).all()
    assert not result.labels_SHW[2].any()  # (0.1 + 0.8) / 2 is below one half
