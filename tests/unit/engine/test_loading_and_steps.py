from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medmoe_cli.core.base.seeds import generator
from medmoe_cli.core.engine.batch import Batch
from medmoe_cli.core.engine.loader import Loader, Loading
from medmoe_cli.core.engine.losses import Target, combine
from medmoe_cli.core.engine.optim import Average, apply_stage, build_optimizer
from medmoe_cli.core.engine.order import Draw
from medmoe_cli.core.engine.prompting import PromptChooser, corrected, training_chooser, validation_choosers
from medmoe_cli.core.engine.step import Carrier, StepModule
from medmoe_cli.core.imaging.sample import Sample
from medmoe_cli.core.nn.prompts import collate
from medmoe_cli.core.nn.segmenter import Segmenter
from tests.tools.tiny_segmenter import PROMPTED, DiscSource, TinySegmenter
from tests.tools.training import Recipe, lines, run

MASK = np.zeros((32, 32), bool)
MASK[8:20, 5:15] = True


def loading(source: DiscSource, *, max_queries: int | None = 8, augment: bool = True) -> Loading:
    return Loading(
        source=source,
        values=tuple(range(1, source.classes_ + 1)),
        seed=5,
        max_queries=max_queries,
        choosers=(training_chooser(PROMPTED, (8, 8), jitter=0.1),),
        cache=None,
        augment=augment,
    )


def first_batch(what: Loading, *, epoch: int = 0, indices: tuple[int, ...] = (0, 1, 2)) -> Batch:
    return next(iter(Loader(what, [[Draw(index, epoch, 0) for index in indices]], workers=0)))


def test_a_batch_asks_for_some_classes_of_each_image_and_the_epoch_decides_which() -> None:
    what = loading(DiscSource(6, classes=4), max_queries=2)
    batch = first_batch(what)
    assert batch.images is not None
    assert batch.images.shape == (3, 1, 32, 32)
    assert batch.image_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(a < b for a, b in zip(batch.values[::2], batch.values[1::2], strict=True))
    for row, (image, value) in enumerate(zip(batch.image_index.tolist(), batch.values, strict=True)):
        expected = (batch.labels[image] == value) & batch.valid[image]
        assert torch.equal(batch.masks[row, 0], expected)
        assert expected.any()
    again = first_batch(what)
    assert again.prompts == batch.prompts
    assert again.values == batch.values
    assert any(first_batch(what, epoch=epoch).values != batch.values for epoch in range(1, 6))


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    what = loading(DiscSource(6))
    alone, together = first_batch(what, indices=(2,)), first_batch(what, indices=(0, 1, 2))
    assert alone.images is not None
    assert together.images is not None
    assert torch.equal(alone.images[0], together.images[2])
    rows = (together.image_index == 2).nonzero().flatten().tolist()
    assert [together.prompts[0][row] for row in rows] == list(alone.prompts[0])
    assert [together.seeds[row] for row in rows] == list(alone.seeds)


class Wandering(DiscSource):
    """Augmentation moves every label out of the image."""

    def load(self, index: int, *, seed: int | None) -> Sample:
        sample = super().load(index, seed=None)
        return sample if seed is None else replace(sample, label=np.zeros_like(sample.label))  # type: ignore[type-var]


def test_an_augmentation_that_hides_everything_is_undone() -> None:
    batch = first_batch(loading(Wandering(4)), indices=(0,))
    assert batch.values == (1, 2)
    assert first_batch(loading(Wandering(4), augment=False), indices=(0,)).values == (1, 2)


class Empty(DiscSource):
    """Nothing is labelled."""

    def load(self, index: int, *, seed: int | None) -> Sample:
        sample = super().load(index, seed=seed)
        return replace(sample, label=np.zeros_like(sample.label))  # type: ignore[type-var]

    def classes(self, index: int) -> tuple[int, ...]:
        return ()


def test_a_batch_without_instances_is_a_step_without_a_gradient(tmp_path: Path) -> None:
    segmenter = TinySegmenter()
    apply_stage(segmenter, PROMPTED)
    losses = StepModule(segmenter, PROMPTED)(Carrier(first_batch(loading(Empty(4)))))
    losses.total.backward()
    gradients = [parameter.grad for parameter in segmenter.parameters()]
    assert losses.total.item() == 0
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    assert run(tmp_path, Recipe(train=Empty(6), validation=None).having(epochs=1)).steps == 2


def test_the_loss_is_the_mean_over_rounds_and_later_rounds_correct() -> None:
    segmenter = TinySegmenter().eval()
    batch = first_batch(loading(DiscSource(4)))
    stage = replace(PROMPTED, correction_rounds=2)
    step = StepModule(segmenter, stage).eval()(Carrier(batch))
    features = segmenter.encode(batch.images).take(batch.image_index)  # type: ignore[arg-type]
    target = Target(masks=batch.masks, valid=batch.valid[batch.image_index])
    prompts, totals = list(batch.prompts[0]), []
    for _ in range(3):
        output = segmenter.decode(features, collate(prompts, mask_size=(8, 8)))
        totals.append(sum(part.item() for part in combine(output, target, stage.losses).values()))
        prompts = corrected(
            prompts, logits=output.logits, low_res_logits=output.low_res_logits, masks=target.masks, valid=target.valid
        )
    assert step.total.detach().item() == pytest.approx(sum(totals) / 3, rel=1e-6)
    assert step.total.detach().item() == pytest.approx(sum(part.item() for part in step.parts.values()), rel=1e-6)
    assert step.loads["layer1"].tolist() == [3.0 * batch.num_queries, 0.0]
    assert all(len(prompt.clicks) >= 2 and prompt.mask is not None for prompt in prompts)


def test_corrections_may_be_left_to_a_share_of_the_steps() -> None:
    segmenter = TinySegmenter().eval()
    counts = []
    for share in (0.0, 0.5, 1.0):
        step = StepModule(segmenter, replace(PROMPTED, correction_rounds=1, correction_share=share)).eval()
        what = loading(DiscSource(4))
        batches = [first_batch(what, epoch=epoch) for epoch in range(12)]
        rounds = [step(Carrier(batch)).loads["layer1"][0].item() / batch.num_queries for batch in batches]
        assert rounds == [step(Carrier(batch)).loads["layer1"][0].item() / batch.num_queries for batch in batches]
        counts.append(sum(rounds))
    assert counts[0] == 12
    assert 12 < counts[1] < 24
    assert counts[2] == 24


def test_corrections_click_on_errors_inside_the_valid_area() -> None:
    logits = torch.full((1, 1, 8, 8), -5.0)
    logits[0, 0, 0, :4] = 5.0
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    masks[0, 0, 4:7, 4:7] = True
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    (empty,) = (PromptChooser(name="none", mix={"none": 1.0}, mask_size=(2, 2), random=False),)
    prompt = empty.first(masks[0, 0].numpy(), class_index=0, rng=generator(0))
    (missed,) = corrected([prompt], logits=logits, low_res_logits=None, masks=masks, valid=valid)
    assert (missed.clicks[0].position, missed.clicks[0].foreground) == ((5.5, 5.5), True)
    valid[0, 4:] = False
    (excess,) = corrected([prompt], logits=logits, low_res_logits=None, masks=masks & valid[:, None], valid=valid)
    assert not excess.clicks[0].foreground
    assert excess.clicks[0].position[1] == 0.5


def kinds_drawn(chooser: PromptChooser, mask: NDArray[np.bool_]) -> dict[str, float]:
    counts = dict.fromkeys(("box", "point", "text", "mask", "nothing"), 0)
    for seed in range(600):
        prompt = chooser.first(mask, class_index=3, rng=generator(seed))
        kind = (
            "box"
            if prompt.box is not None
            else "point"
            if prompt.clicks
            else "text"
            if prompt.class_index == 3
            else "mask"
            if prompt.mask is not None
            else "nothing"
        )
        counts[kind] += 1
    return {kind: count / 600 for kind, count in counts.items()}


def test_first_prompts_follow_the_mix_and_the_priors() -> None:
    share = kinds_drawn(training_chooser(PROMPTED, (8, 8), jitter=0.1), MASK)
    # box .4, point .3, text .1, none .2 of which mask .4, text .3, none .3
    expected = {"box": 0.4, "point": 0.3, "text": 0.1 + 0.06, "mask": 0.08, "nothing": 0.06}
    for kind, wanted in expected.items():
        assert share[kind] == pytest.approx(wanted, abs=0.06), kind


@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.3])
def test_training_boxes_stray_as_far_as_they_may(jitter: float) -> None:
    stage = replace(PROMPTED, prompt_mix={"box": 1.0})
    chooser = training_chooser(stage, (8, 8), jitter=jitter)
    boxes = [chooser.first(MASK, class_index=0, rng=generator(seed)).box for seed in range(200)]
    strays = np.abs(np.array(boxes) - (5, 8, 15, 20)) / (10, 12, 10, 12)
    assert strays.max() <= jitter + 1e-9
    assert strays.max() >= 0.9 * jitter


def test_validation_prompts_are_fixed_and_those_that_make_sense() -> None:
    kinds = ("point", "box", "text", "none")
    names = [chooser.name for chooser in validation_choosers(PROMPTED, (8, 8), kinds=kinds, binary=True)]
    assert names == ["box", "point", "text", "none"]
    names = [chooser.name for chooser in validation_choosers(PROMPTED, (8, 8), kinds=kinds, binary=False)]
    assert names == ["box", "point", "text"]
    box, point, *_ = validation_choosers(PROMPTED, (8, 8), kinds=kinds, binary=False)
    for seed in (0, 1):
        assert box.first(MASK, class_index=0, rng=generator(seed)).box == (5.0, 8.0, 15.0, 20.0)
        (click,) = point.first(MASK, class_index=0, rng=generator(seed)).clicks
        assert MASK[int(click.position[1]), int(click.position[0])]


def test_the_average_by_hand() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    average = Average({"w": parameter}, 0.5)
    parameter.data.fill_(2.0)
    average.update(0)  # decay min(0.5, 1/10)
    assert average.shadow["w"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    parameter.data.fill_(4.0)
    average.update(100)  # decay 0.5
    assert average.shadow["w"].item() == pytest.approx(0.5 * 1.9 + 0.5 * 4)
    average.swap()
    assert (parameter.item(), average.shadow["w"].item()) == (pytest.approx(2.95), 4.0)
    average.swap()
    assert parameter.item() == 4.0


def test_a_log_line_covers_the_steps_since_the_last_one(tmp_path: Path) -> None:
    run(tmp_path, Recipe().having(steps=20))
    by_kind: dict[str, list[dict[str, object]]] = {"step": [], "epoch": []}
    for line in lines(tmp_path):
        by_kind[line["kind"]].append(line)
    assert [line["step"] for line in by_kind["step"]] == [10, 20]
    windows = [line["losses"]["dice"] for line in by_kind["step"]]  # type: ignore[index]
    epochs = [line["losses"]["dice"] for line in by_kind["epoch"]]  # type: ignore[index]
    assert windows[0] * 10 == pytest.approx(sum(epochs[:3]) * 3 + _one_step(by_kind, tmp_path), abs=1e-6)
    assert sum(windows) * 10 == pytest.approx(sum(epochs[:6]) * 3 + epochs[6] * 2, abs=1e-6)
    raw = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"steps_per_s", "wait_percent", "rss_mb"} == set(raw[3]["machine"])


def _one_step(by_kind: dict[str, list[dict[str, object]]], folder: Path) -> float:
    """Dice loss of step 10, the first of the fourth epoch, from a run that ends there."""
    run(folder / "ten", Recipe().having(steps=10))
    return float(lines(folder / "ten")[-1]["losses"]["dice"])


def test_frozen_parts_are_in_evaluation_mode_and_vectors_are_not_decayed() -> None:
    segmenter: Segmenter = TinySegmenter()
    parameters = apply_stage(segmenter, replace(PROMPTED, trainable=("decoder.3.", "names.")))
    assert set(parameters) == {"decoder.3.weight", "decoder.3.bias", "names.weight"}
    assert not segmenter.encoder.training  # type: ignore[union-attr]
    assert not segmenter.decoder[0].training  # type: ignore[index, union-attr]
    assert segmenter.decoder[3].training  # type: ignore[index, union-attr]
    from medmoe_cli.core.config.sections import TrainConfig

    groups = build_optimizer(TrainConfig(weight_decay=0.1), parameters, learning_rate=1.0).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 2), (0.0, 1)]
