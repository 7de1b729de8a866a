"""The loop: same result for any number of workers and interruptions, stages, caching, averaging, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision

from medmoe_cli.core.base.errors import CheckpointError, ConfigError, DataError, MedMoEError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.engine.checkpoint import Checkpoints, read_snapshot
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.validate import chosen_samples
from medmoe_cli.core.nn.segmenter import Segmenter, Stage
from tests.tools.tiny_segmenter import AUTOMATIC, DECODER_ONLY, PROMPTED, DiscSource, TinySegmenter
from tests.tools.training import Recipe, digest, lines, run


class Interruption(MedMoEError):
    """Stands in for a crash at a chosen step."""


def interrupted(folder: Path, recipe: Recipe, *, at_step: int) -> None:
    """Train and stop like a crash right after the checkpoint nearest to a step; every step is a checkpoint."""

    class Watching(Silent):
        def update(self, detail: str) -> None:
            if f"step {at_step}/" in detail:
                raise Interruption("crash")

    with pytest.raises(Interruption):
        run(folder, recipe.having(checkpoint_minutes=1e-9, keep_checkpoints=3), reporter=Watching())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("straight")
    return digest(run(folder, Recipe())), lines(folder)


@pytest.mark.parametrize("at_step", [2, 3, 5, 7, 9])
def test_a_resumed_run_equals_one_never_interrupted(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, object]]], at_step: int
) -> None:
    interrupted(tmp_path, Recipe(), at_step=at_step)
    resumed = run(tmp_path, Recipe(), resume=True)
    assert digest(resumed) == straight[0]
    assert lines(tmp_path) == straight[1]


def test_workers_change_nothing(tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, object]]]) -> None:
    assert digest(run(tmp_path, Recipe().having(workers=2))) == straight[0]
    assert lines(tmp_path) == straight[1]


def test_another_seed_changes_everything(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, object]]]
) -> None:
    assert digest(run(tmp_path, Recipe().having(seed=1)))["model.safetensors"] != straight[0]["model.safetensors"]


def test_average_and_stages_resume_too(tmp_path: Path) -> None:
    first = replace(PROMPTED, name="first", share=2.0, correction_rounds=0)
    recipe = Recipe(stages=(first, DECODER_ONLY)).having(ema=0.9, schedule="poly", optimizer="sgd")
    whole = run(tmp_path / "whole", recipe)
    assert [line["stage"] for line in lines(tmp_path / "whole") if line["kind"] == "epoch"] == [
        "first",
        "first",
        "decoder",
    ]
    for at_step in (4, 6, 8):
        folder = tmp_path / str(at_step)
        interrupted(folder, recipe, at_step=at_step)
        assert digest(run(folder, recipe, resume=True)) == digest(whole)
        assert lines(folder) == lines(tmp_path / "whole")


def test_the_average_is_saved_and_the_training_weights_beside_it(tmp_path: Path) -> None:
    plain = read_snapshot(run(tmp_path / "plain", Recipe()).last)
    averaged = read_snapshot(run(tmp_path / "ema", Recipe().having(ema=0.9)).last)
    raw = averaged.optimizer["raw/decoder.0.weight"]
    assert torch.equal(raw, plain.model["decoder.0.weight"])
    assert not torch.equal(averaged.model["decoder.0.weight"], raw)
    # The average lies between where the weights were and where they are.
    assert (averaged.model["decoder.0.weight"] - raw).abs().max() < 0.2


def test_training_learns(tmp_path: Path) -> None:
    trained = run(
        tmp_path, Recipe(stages=(replace(PROMPTED, prompt_mix={"box": 1.0}, prior_mix={}),)).having(epochs=12)
    )
    epochs = [line for line in lines(tmp_path) if line["kind"] == "epoch"]
    assert epochs[-1]["losses"]["dice"] < 0.6 * epochs[0]["losses"]["dice"]
    assert trained.best_dice is not None
    assert trained.best_dice == max(line["validation"]["score"] for line in epochs)
    best = [line["step"] for line in epochs if line["best"]][-1]
    assert trained.checkpoint.name == f"step-{best}"
    assert epochs[-1]["validation"]["num_instances"] == 8
    assert set(epochs[-1]["validation"]["dice"]) == {"box", "point"}
    assert epochs[-1]["routing"] == {"layer1": [1.0, 0.0]}


def test_label_maps_train_too(tmp_path: Path) -> None:
    trained = run(tmp_path, Recipe(stages=(AUTOMATIC,)).having(epochs=10))
    assert trained.best_dice is not None
    assert trained.best_dice > 0.3
    assert set(trained.validation.dice) == {"automatic"}  # type: ignore[union-attr]


def test_only_the_stage_trains(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = TinySegmenter(stages=(DECODER_ONLY,)).state_dict()
    after = read_snapshot(run(tmp_path, Recipe(stages=(DECODER_ONLY,))).last)
    changed = {name for name, tensor in after.model.items() if not torch.equal(tensor, before[name])}
    # No prompt names a class here, so the names get no gradient, and decay leaves untouched weights alone.
    assert changed == {name for name in before if name.startswith("decoder.")}
    assert not any(name.startswith("encoder.") for name in after.optimizer)


def test_a_frozen_encoder_is_asked_once_per_image(tmp_path: Path) -> None:
    calls: list[int] = []

    def count(segmenter: Segmenter) -> None:
        encode = segmenter.encode
        segmenter.encode = lambda images: calls.append(images.shape[0]) or encode(images)  # type: ignore[method-assign, func-returns-value]

    reporter = Silent()
    messages: list[str] = []
    reporter.info = messages.append  # type: ignore[method-assign]
    recipe = Recipe(stages=(DECODER_ONLY,), features=tmp_path / "features", prepare=count)
    first = run(tmp_path / "a", recipe, reporter=reporter)
    assert sum(calls) == 10 + 4 + 1  # training, validation, and one to know the size
    assert any("augmentation is off" in message for message in messages)
    calls.clear()
    again = run(tmp_path / "b", recipe.having(workers=1))
    assert sum(calls) == 1
    assert digest(first) == digest(again)

    # Another encoder is another key.
    def other(segmenter: Segmenter) -> None:
        count(segmenter)
        segmenter.encoder[0].bias.data[0] += 1  # type: ignore[index, union-attr]

    calls.clear()
    run(tmp_path / "c", replace(recipe, prepare=other))
    assert sum(calls) == 15
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_damaged_features_are_named(tmp_path: Path) -> None:
    recipe = Recipe(stages=(DECODER_ONLY,), features=tmp_path / "features")
    run(tmp_path / "a", recipe)
    file = next((tmp_path / "features").rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="rm -r"):
        run(tmp_path / "b", recipe)


def poison_weight(segmenter: Segmenter) -> None:
    def poison(layer: torch.nn.Module, inputs: object) -> None:
        layer.weight.data[0, 0, 0, 0] = torch.nan  # type: ignore[index, union-attr, operator]

    segmenter.decoder[0].register_forward_pre_hook(poison)  # type: ignore[index, union-attr]


def poison_gradient(segmenter: Segmenter) -> None:
    segmenter.decoder[0].bias.register_hook(lambda grad: grad * torch.inf)  # type: ignore[index, union-attr]


def poison_loss(segmenter: Segmenter) -> None:
    decode = segmenter.decode

    def poisoned(*arguments: object) -> object:
        output = decode(*arguments)  # type: ignore[arg-type]
        return replace(output, aux_losses={"size": output.logits.mean() * torch.nan})

    segmenter.decode = poisoned  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize(
    ("prepare", "cause"),
    [
        (poison_weight, "weight 'decoder.0.weight' is not finite"),
        (poison_gradient, "the gradient of 'decoder.0.bias' is not finite"),
        (poison_loss, "loss loss, aux_size is not finite"),
    ],
)
def test_values_that_are_not_finite_stop_before_the_update(
    tmp_path: Path, prepare: Callable[[Segmenter], None], cause: str, precision: str
) -> None:
    good = Recipe(precision=precision)
    before = digest(run(tmp_path, good.having(epochs=1)))
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, replace(good, prepare=prepare).having(epochs=2), resume=True)
    assert cause in caught.value.why
    assert "step 3, cases case_00" in caught.value.where
    assert caught.value.exit_code == 2
    assert Checkpoints(tmp_path / "checkpoints", keep=2).steps() == [3]
    assert read_snapshot(tmp_path / "checkpoints" / "step-3").state.best_step == 3
    assert before == digest(run(tmp_path, good.having(epochs=1), resume=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_not_finite_is_named(tmp_path: Path, workers: int) -> None:
    recipe = Recipe(train=DiscSource(10, bad="case_003:1")).having(workers=workers)
    with pytest.raises(DataError) as caught:
        run(tmp_path, recipe)
    assert caught.value.where == "case_003:1"
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="case_003:1"):
        run(tmp_path / "cached", replace(recipe, stages=(DECODER_ONLY,), features=tmp_path / "features"))


def test_a_resume_with_other_values_or_data_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Recipe().having(epochs=1))
    with pytest.raises(CheckpointError) as caught:
        run(
            tmp_path,
            replace(Recipe().having(epochs=1, learning_rate=0.5), identity={"data": "others", "model": "x"}),
            resume=True,
        )
    for text in (
        "data: discs then, others now",
        "model: absent then, x now",
        "train.learning_rate: 0.01 then, 0.5 now",
    ):
        assert text in caught.value.why
    assert caught.value.exit_code == 4
    with pytest.raises(CheckpointError, match=r"train\.epochs"):
        run(tmp_path, Recipe().having(epochs=2, schedule="cosine"), resume=True)


def test_a_run_with_a_constant_rate_may_be_prolonged(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, object]]]
) -> None:
    run(tmp_path, Recipe().having(epochs=2))
    longer = run(tmp_path, Recipe(), resume=True)
    assert digest(longer) == straight[0]
    epochs = [line for line in straight[1] if line["kind"] == "epoch"]
    assert [line for line in lines(tmp_path) if line["kind"] == "epoch"] == epochs
    assert run(tmp_path, Recipe(), resume=True).steps == longer.steps


def test_steps_end_a_run_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    trained = run(tmp_path, Recipe().having(steps=4))
    assert (trained.steps, trained.epochs) == (4, 2)
    assert read_snapshot(trained.last).state.finished
    assert [line["step"] for line in lines(tmp_path) if line["kind"] == "epoch"] == [3, 4]


def test_a_run_without_validation_ends_with_its_last_checkpoint(tmp_path: Path) -> None:
    trained = run(tmp_path, Recipe(validation=None))
    assert trained.best_dice is None
    assert trained.checkpoint == trained.last
    assert all(line["validation"] is None for line in lines(tmp_path) if line["kind"] == "epoch")


def test_no_samples_and_no_matching_parameters_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        run(tmp_path, Recipe(train=DiscSource(0)))
    nothing: Stage = replace(PROMPTED, trainable=("nonsense.",))
    with pytest.raises(ConfigError, match="nothing to train"):
        run(tmp_path, Recipe(stages=(nothing,)))


def test_validation_limits_spread_over_all_samples() -> None:
    assert chosen_samples(5, None) == [0, 1, 2, 3, 4]
    assert chosen_samples(5, 9) == [0, 1, 2, 3, 4]
    assert chosen_samples(101, 3) == [0, 50, 100]


@pytest.fixture
def half_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float16 with loss scaling, which the command offers on GPUs only."""

    def start(compute: Compute, *, num_devices: int) -> Fabric:
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision(precision="16-mixed", device="cpu"))
        fabric.launch()
        return fabric

    compute = Compute(device=torch.device("cpu"), precision="16")
    monkeypatch.setattr("tests.tools.training.start_fabric", start)
    monkeypatch.setattr("tests.tools.training.resolve_compute", lambda device, precision: compute)


@pytest.mark.usefixtures("half_on_cpu")
def test_float16_keeps_its_loss_scale_through_a_resume(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Recipe())
    assert read_snapshot(whole.last).state.scaler["_growth_tracker"] == 9
    run(tmp_path / "parts", Recipe().having(epochs=1))
    assert digest(run(tmp_path / "parts", Recipe(), resume=True)) == digest(whole)


@pytest.mark.usefixtures("half_on_cpu")
def test_float16_updates_left_out_are_counted_and_bounded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="21 float16 updates in a row"):
        run(tmp_path, replace(Recipe(validation=None), prepare=poison_gradient).having(epochs=9))
