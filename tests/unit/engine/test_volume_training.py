"""Windows of volumes through the trainer: resumed, by workers, from cached features, with the owner of each sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medmoe_cli.core.config.plan import ChannelPlan
from medmoe_cli.core.config.sections import AugmentConfig
from medmoe_cli.core.data.concat_source import ConcatSource, SourcePart
from medmoe_cli.core.data.volume_source import VolumeSource
from medmoe_cli.core.engine.loader import Loader, Loading
from medmoe_cli.core.engine.order import Draw
from medmoe_cli.core.engine.prompting import training_chooser, validation_choosers
from medmoe_cli.core.imaging.sample import SampleSource
from medmoe_cli.core.nn.segmenter import Segmenter
from tests.tools.plans import slice_plan
from tests.tools.training import Recipe, digest, lines, run
from tests.tools.volumes import GATE_STAGE, VOLUME_STAGE, TinyVolumes, balls

SIDE = 16
PLAN = slice_plan(
    input_size=SIDE,
    spacing_mm=(1.5, 1.5, 1.5),
    channels=(ChannelPlan(name="MR", normalization="zscore"),),
    mirror_axes=("x", "y", "z"),
)


def windows(folder: Path, *, cases: int = 4, seed: int = 0, augment: bool = True) -> VolumeSource:
    store, records = balls(folder, cases=cases, seed=seed)
    return VolumeSource(
        store=store, records=records, cases=list(records), plan=PLAN, augment=AugmentConfig() if augment else None
    )


def two_owners(folder: Path) -> ConcatSource:
    """Four cases of the general model, two of an expert's, repeated to be seen as often."""
    return ConcatSource(
        [
            SourcePart(name="old", source=windows(folder / "old", cases=4)),
            SourcePart(name="new", source=windows(folder / "new", cases=2, seed=7), owner=1),
        ],
        balanced=True,
    )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("volumes")
    return Recipe(
        stages=(VOLUME_STAGE,),
        train=two_owners(folder / "train"),
        validation=windows(folder / "validation", cases=2, seed=9, augment=False),
        build=TinyVolumes,
        config={"epochs": 2},
    )


@pytest.fixture(scope="module")
def straight(
    recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("straight")
    return digest(run(folder, recipe)), lines(folder)


def test_a_resumed_run_on_windows_equals_one_never_interrupted(
    tmp_path: Path, recipe: Recipe, straight: tuple[dict[str, str], list[dict[str, object]]]
) -> None:
    run(tmp_path, recipe.having(steps=5))  # in the middle of the second epoch, which goes on after the resume
    resumed = run(tmp_path, recipe, resume=True)
    assert digest(resumed) == straight[0]


def test_workers_cut_the_same_windows(
    tmp_path: Path, recipe: Recipe, straight: tuple[dict[str, str], list[dict[str, object]]]
) -> None:
    assert digest(run(tmp_path, recipe.having(workers=2))) == straight[0]
    assert lines(tmp_path) == straight[1]


def test_losses_and_scores_of_windows(straight: tuple[dict[str, str], list[dict[str, object]]]) -> None:
    epochs = [line for line in straight[1] if line["kind"] == "epoch"]
    assert len(epochs) == 2
    for line in epochs:
        assert {"dice", "bce", "owner"} <= set(line["losses"])  # type: ignore[call-overload]
        assert set(line["validation"]["dice"]) == {"box", "point", "text"}  # type: ignore[index]
        assert line["validation"]["num_instances"] == 4  # type: ignore[index]  # one class for each window


def test_masks_are_learned(tmp_path: Path, recipe: Recipe) -> None:
    boxes = replace(VOLUME_STAGE, prompt_mix={"box": 1.0}, correction_rounds=0)
    trained = run(tmp_path, replace(recipe, stages=(boxes,)).having(epochs=16, learning_rate=4e-2, validation_every=16))
    epochs = [line for line in lines(tmp_path) if line["kind"] == "epoch"]
    assert epochs[-1]["losses"]["dice"] < 0.7 * epochs[0]["losses"]["dice"]
    assert trained.best_dice is not None
    assert trained.best_dice > 0.5


def test_the_gate_learns_who_owns_a_sample_from_features_encoded_once(tmp_path: Path, recipe: Recipe) -> None:
    calls: list[int] = []

    def prepare(segmenter: Segmenter) -> None:
        encode = segmenter.encode
        segmenter.encode = lambda images: calls.append(images.shape[0]) or encode(images)  # type: ignore[method-assign, func-returns-value]

    # Brighter volumes belong to the expert: something to tell owners apart by.
    class Brighter:
        def __init__(self, source: SampleSource) -> None:
            self.source = source

        def __len__(self) -> int:
            return len(self.source)

        def __getattr__(self, name: str) -> object:
            return getattr(self.source, name)

        def load(self, index: int, *, seed: int | None) -> object:
            sample = self.source.load(index, seed=seed)
            return replace(sample, image=sample.image + 2 * sample.owner)

    gate = replace(recipe, stages=(GATE_STAGE,), train=Brighter(recipe.train), prepare=prepare)
    gate = replace(gate, features=tmp_path / "features").having(epochs=10, learning_rate=0.15, validation_every=10)
    first = run(tmp_path / "a", gate)
    assert sum(calls) == 8 + 4 + 4 + 1  # each window once, copies not again; validation; one to know the size
    epochs = [line for line in lines(tmp_path / "a") if line["kind"] == "epoch"]
    assert epochs[-1]["losses"]["owner"] < 0.35 < epochs[0]["losses"]["owner"]
    calls.clear()
    assert digest(run(tmp_path / "b", gate.having(workers=1))) == digest(first)
    assert sum(calls) == 1


def batches(source: SampleSource, indices: list[int], *, epoch: int = 0) -> Iterator[object]:
    loading = Loading(
        source=source,
        values=(1, 2),
        seed=3,
        max_queries=4,
        choosers=(training_chooser(VOLUME_STAGE, (8, 8, 8), jitter=0.1),),
        cache=None,
        augment=True,
    )
    return iter(Loader(loading, [[Draw(index, epoch, 0) for index in indices]], workers=0))


def test_only_the_class_of_the_window_is_asked_for_and_its_owner_known(tmp_path: Path) -> None:
    source = two_owners(tmp_path)
    indices = list(range(len(source)))
    (batch,) = batches(source, indices)
    assert batch.num_queries == len(indices)  # type: ignore[attr-defined]
    assert batch.image_index.tolist() == indices  # type: ignore[attr-defined]
    assert batch.values == tuple(source.classes(index)[0] for index in indices)  # type: ignore[attr-defined]
    assert batch.owners.tolist() == [0] * 8 + [1] * 8  # type: ignore[attr-defined]
    assert batch.owners.dtype == torch.int64  # type: ignore[attr-defined]
    assert batch.masks.flatten(1).any(1).all()  # type: ignore[attr-defined]
    assert batch.images.shape == (16, 1, SIDE, SIDE, SIDE)  # type: ignore[attr-defined]
    assert {len(prompt.box) for (prompt,) in zip(*batch.prompts, strict=True) if prompt.box is not None} == {6}  # type: ignore[attr-defined]


def test_copies_are_prompted_anew(tmp_path: Path) -> None:
    source = two_owners(tmp_path)
    same = [index for index in range(len(source)) if source.key(index) == source.key(8)]
    assert len(same) == 2
    (batch,) = batches(source, same)
    assert batch.seeds[0] != batch.seeds[1]  # type: ignore[attr-defined]
    assert not torch.equal(batch.images[0], batch.images[1])  # type: ignore[attr-defined]


def test_validation_prompts_of_volumes() -> None:
    mask = np.zeros((SIDE,) * 3, bool)
    mask[2:6, 3:9, 4:12] = True
    chosen = validation_choosers(VOLUME_STAGE, (8, 8, 8), kinds={"box", "point", "none", "text"}, binary=False)
    rng = np.random.default_rng(0)
    first = {one.name: one.first(mask, class_index=1, rng=rng) for one in chosen}
    assert set(first) == {"box", "point", "text"}
    assert first["box"].box == (4, 3, 2, 12, 9, 6)
    assert first["text"].class_index == 1
    (click,) = first["point"].clicks
    assert mask[tuple(int(place) for place in reversed(click.position))]
    binary = replace(VOLUME_STAGE, prompt_mix={"box": 0.7, "none": 0.3})
    names = [one.name for one in validation_choosers(binary, (8,) * 3, kinds={"box", "point", "none"}, binary=True)]
    assert names == ["box", "point", "none"]
