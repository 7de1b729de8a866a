"""What every Segmenter must keep: one tester, inherited by each method's test class.

Each test answers a fault that published mixture-of-experts code shipped with: parameters that never received a
gradient, frozen ones that trained, routing that depended on the batch, noise in prediction, balance losses that were
constants. A method's class names its networks and prompts; what cannot be asked in general is a hook that it answers.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medmoe_cli.core.engine.optim import set_modes
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts, Segmenter, Stage
from medmoe_cli.core.nn.weights import load_tensors, save_tensors

KEYS = Path(__file__).parent / "keys"


class SegmenterContract(ABC):
    """Inherit, answer the hooks, and name the class `Test...`."""

    keys_file: str
    num_images = 2
    tolerance = 1e-5

    # Hooks -----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def build(self, *, checkpointing: bool = False) -> Segmenter:
        """A small network on the CPU; every call gives the same weights, with nothing at a special value like zero."""

    @abstractmethod
    def images(self) -> Tensor:
        """(num_images, channels, H, W) in [0, 1], different images."""

    @abstractmethod
    def prompts(self) -> tuple[Prompts, Tensor]:
        """Queries of every prompt kind the method takes, mixed, and the image of each query (Q,)."""

    @abstractmethod
    def routers_answer_to(self) -> dict[str, tuple[Features, Prompts]]:
        """By name of a router's input: features and prompts that differ from `encoded()`'s in that input alone."""

    @abstractmethod
    def balance_at(self, *, intended: bool) -> dict[str, float]:
        """The auxiliary losses when routing is as intended, and when it has collapsed."""

    @abstractmethod
    def step_zero(self) -> tuple[Tensor, Tensor]:
        """What a fresh model answers and what its base model answers, which must be the same."""

    # Helpers ---------------------------------------------------------------------------------------------------------

    def encoded(self, segmenter: Segmenter) -> tuple[Features, Prompts]:
        prompts, image_Q = self.prompts()
        return segmenter.encode(self.images()).take(image_Q), prompts

    def loss(self, output: Output) -> Tensor:
        """A task loss that reaches every answer and differs from pixel to pixel; auxiliary losses are not in it."""
        generator = torch.Generator().manual_seed(3)
        target = (torch.rand(output.logits.shape, generator=generator) > 0.5).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, target)
        for view in output.views:
            loss = loss + (view.logits - 0.5).square().mean(dim=(1, 2, 3)).mul(view.weights).mean()
        if output.scores is not None:
            loss = loss + ((output.scores - 0.3) ** 2).mean()
        return loss

    def prepared(self, segmenter: Segmenter, stage: Stage) -> None:
        """As the engine does: what the stage trains takes gradients, what it freezes is in evaluation mode."""
        for name, parameter in segmenter.named_parameters():
            parameter.requires_grad_(name.startswith(stage.trainable))
        set_modes(segmenter)

    # The contract ----------------------------------------------------------------------------------------------------

    def test_stages_name_parameters_that_exist(self) -> None:
        segmenter = self.build()
        names = [name for name, _ in segmenter.named_parameters()]
        assert segmenter.stages()
        for stage in segmenter.stages():
            assert any(name.startswith(stage.trainable) for name in names)
            assert stage.losses
            if stage.task == "prompted":
                assert sum(stage.prompt_mix.values()) == pytest.approx(1)

    def test_gradient_audit(self) -> None:
        """The task alone reaches every part, routers included; balance losses must not be all that they hear."""
        for index in range(len(self.build().stages())):
            segmenter = self.build()
            stage = segmenter.stages()[index]
            self.prepared(segmenter, stage)
            before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
            trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
            optimizer = torch.optim.SGD(trained, lr=1e-2)
            seen: set[str] = set()
            for seed in range(6):
                torch.manual_seed(seed)
                optimizer.zero_grad(set_to_none=True)
                self.loss(segmenter.decode(*self.encoded(segmenter))).backward()
                for name, parameter in segmenter.named_parameters():
                    if parameter.grad is None:
                        continue
                    assert name.startswith(stage.trainable), f"frozen {name} received a gradient"
                    assert torch.isfinite(parameter.grad).all(), name
                    if parameter.grad.abs().max() > 0:
                        seen.add(name)
                optimizer.step()
            declared = {name for name, _ in segmenter.named_parameters() if name.startswith(stage.trainable)}
            assert declared - seen == set(), "declared trainable, but no gradient in six batches"
            for name, tensor in segmenter.state_dict().items():
                if not name.startswith(stage.trainable):
                    assert torch.equal(tensor, before[name]), f"frozen {name} changed"

    def test_every_stage_parameter_takes_part_in_every_backward(self) -> None:
        # Distributed training waits for a gradient of each parameter, also of experts that no token chose.
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[0])
        features, prompts = self.encoded(segmenter)
        first = torch.tensor([0])
        self.loss(segmenter.decode(features.take(first), _rows(prompts, first))).backward()
        idle = [
            name
            for name, parameter in segmenter.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ]
        assert idle == []

    def test_fresh_model_is_its_base_model(self) -> None:
        ours, base = self.step_zero()
        assert ours.shape == base.shape
        assert float((ours - base).abs().max()) <= self.tolerance
        assert float(base.std()) > 100 * self.tolerance, "the base model's answer is a constant: nothing was compared"

    def test_answers_do_not_depend_on_the_batch(self) -> None:
        segmenter = self.build().eval()
        _, image_Q = self.prompts()
        with torch.no_grad():
            features, prompts = self.encoded(segmenter)
            together = segmenter.decode(features, prompts)
            for row in range(prompts.num_queries):
                one = torch.tensor([row])
                alone_features = segmenter.encode(self.images()[image_Q[one]])
                self.assert_same(segmenter.decode(alone_features, _rows(prompts, one)), together, one)
            order = torch.randperm(prompts.num_queries, generator=torch.Generator().manual_seed(1))
            self.assert_same(segmenter.decode(features.take(order), _rows(prompts, order)), together, order)

    def test_padding_of_neighbours_changes_nothing(self) -> None:
        segmenter = self.build().eval()
        with torch.no_grad():
            features, prompts = self.encoded(segmenter)
            padded = Prompts(
                points=torch.cat([prompts.points, torch.full_like(prompts.points, 9.0)], dim=1),
                point_labels=torch.cat([prompts.point_labels, torch.full_like(prompts.point_labels, -1)], dim=1),
                boxes=prompts.boxes,
                masks=prompts.masks,
                has_mask=prompts.has_mask,
                class_index=prompts.class_index,
            )
            rows = torch.arange(prompts.num_queries)
            self.assert_same(segmenter.decode(features, padded), segmenter.decode(features, prompts), rows)

    def test_evaluation_repeats_itself(self) -> None:
        segmenter = self.build().eval()
        with torch.no_grad():
            first = segmenter.decode(*self.encoded(segmenter))
            torch.manual_seed(77)
            second = segmenter.decode(*self.encoded(segmenter))
        assert torch.equal(first.logits, second.logits)

    def test_a_last_batch_of_one_trains(self) -> None:
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[0])
        prompts, _ = self.prompts()
        features = segmenter.encode(self.images()[:1]).take(torch.tensor([0]))
        output = segmenter.decode(features, _rows(prompts, torch.tensor([0])))
        loss = self.loss(output) + sum(output.aux_losses.values())
        loss.backward()
        assert torch.isfinite(loss)

    def test_routers_respond_to_each_input(self) -> None:
        segmenter = self.build().eval()
        changed = self.routers_answer_to()
        assert changed
        with torch.no_grad():
            reference = segmenter.decode(*self.encoded(segmenter)).routing
            assert reference
            for name, (features, prompts) in changed.items():
                routing = segmenter.decode(features, prompts).routing
                moved = max(float((routing[place].logits - reference[place].logits).abs().max()) for place in reference)
                assert moved > 1e-4, f"no router noticed another {name}"

    def test_balance_losses_are_least_as_intended(self) -> None:
        intended, collapsed = self.balance_at(intended=True), self.balance_at(intended=False)
        assert intended.keys() == collapsed.keys()
        assert intended
        for name in intended:
            assert intended[name] < 0.1 * collapsed[name], name

    def test_balance_losses_move_the_routers(self) -> None:
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[0])
        torch.manual_seed(0)
        output = segmenter.decode(*self.encoded(segmenter))
        assert output.aux_losses
        for name, loss in output.aux_losses.items():
            trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
            assert max(float(one.abs().max()) for one in gradients if one is not None) > 0, f"{name} is a constant"

    def test_checkpointing_changes_no_gradient(self) -> None:
        gradients = []
        for checkpointing in (False, True):
            segmenter = self.build(checkpointing=checkpointing)
            segmenter.requires_grad_(True).train()
            torch.manual_seed(5)
            self.loss(segmenter.decode(*self.encoded(segmenter))).backward()
            gradients.append({name: parameter.grad for name, parameter in segmenter.named_parameters()})
        plain, recomputed = gradients
        assert any(name.startswith(self.build().encoder_prefixes()) and one is not None for name, one in plain.items())
        for name, gradient in plain.items():
            other = recomputed[name]
            assert (gradient is None) == (other is None), name
            if gradient is not None and other is not None:
                torch.testing.assert_close(other, gradient, atol=1e-7, rtol=1e-4, msg=name)

    def test_state_dict_keys_are_pinned(self) -> None:
        """Renaming a parameter breaks every saved model: it must show in a review (MEDMOE_PIN_KEYS=1 writes anew)."""
        found = {name: list(tensor.shape) for name, tensor in self.build().state_dict().items()}
        path = KEYS / self.keys_file
        if os.environ.get("MEDMOE_PIN_KEYS") == "1":
            lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(shape)}" for name, shape in sorted(found.items()))
            path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        pinned = json.loads(path.read_text(encoding="utf-8"))
        assert found == pinned

    def test_encoding_sees_no_prompt_and_decoding_spoils_no_features(self) -> None:
        segmenter = self.build().eval()
        assert list(inspect.signature(segmenter.encode).parameters) == ["images"]
        with torch.no_grad():
            features, prompts = self.encoded(segmenter)
            before = {name: _digest(tensor) for name, tensor in features.maps.items()}
            segmenter.decode(features, prompts)
            assert {name: _digest(tensor) for name, tensor in features.maps.items()} == before

    def test_encoder_prefixes_cover_what_encoding_uses(self) -> None:
        segmenter = self.build().requires_grad_(True)
        features = segmenter.encode(self.images())
        assert features.num_images == self.num_images
        sum(tensor.sum() for tensor in features.maps.values()).backward()  # type: ignore[union-attr]
        used = {name for name, parameter in segmenter.named_parameters() if parameter.grad is not None}
        assert used
        assert {name for name in used if not name.startswith(segmenter.encoder_prefixes())} == set()
        for stage in segmenter.stages():
            trains_encoder = any(name.startswith(stage.trainable) for name in used)
            assert segmenter.encoder_is_frozen(stage) == (not trains_encoder)

    def test_save_and_load_round_trip(self, tmp_path: Path) -> None:
        first = self.build().eval()
        save_tensors(tmp_path / "model.safetensors", first.state_dict())
        second = self.build().eval()
        with torch.no_grad():
            for parameter in second.parameters():
                parameter.add_(1)
        second.load_state_dict(load_tensors(tmp_path / "model.safetensors"))
        with torch.no_grad():
            assert torch.equal(first.decode(*self.encoded(first)).logits, second.decode(*self.encoded(second)).logits)

    def test_parameter_groups_partition_the_parameters(self) -> None:
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[-1])
        groups = segmenter.parameter_groups()
        assert len({group.name for group in groups}) == len(groups)
        parameters = list(segmenter.parameters())
        assert sum(group.total for group in groups) == sum(one.numel() for one in parameters)
        assert sum(group.trainable for group in groups) == sum(one.numel() for one in parameters if one.requires_grad)
        assert all(group.total > 0 for group in groups)

    def test_output_shapes(self) -> None:
        segmenter = self.build().eval()
        with torch.no_grad():
            features, prompts = self.encoded(segmenter)
            output = segmenter.decode(features, prompts)
        queries, size = prompts.num_queries, tuple(self.images().shape[2:])
        assert features.input_size == size
        assert output.logits.shape[0] == queries
        assert tuple(output.logits.shape[2:]) == size
        if output.low_res_logits is not None:
            assert tuple(output.low_res_logits.shape) == (queries, 1, *segmenter.mask_size)
        if output.scores is not None:
            assert tuple(output.scores.shape) == (queries,)
            assert bool(((output.scores >= 0) & (output.scores <= 1)).all())
        for tensor in _tensors(output):
            assert torch.isfinite(tensor).all()
        assert output.aux_losses == {}, "auxiliary losses are for training"
        assert output.views == (), "views are for training"

    def test_views_cover_parts_of_the_input(self) -> None:
        segmenter = self.build()
        self.prepared(segmenter, segmenter.stages()[0])
        features, prompts = self.encoded(segmenter)
        for view in segmenter.decode(features, prompts).views:
            assert view.logits.shape[:2] == (prompts.num_queries, 1)
            assert torch.isfinite(view.logits).all()
            assert view.weights.shape == (prompts.num_queries,)
            assert (view.weights > 0).all()
            if view.regions is not None:
                assert view.regions.shape == (prompts.num_queries, 4)
                assert (view.regions[:, 2:] > view.regions[:, :2]).all()

    def assert_same(self, output: Output, reference: Output, rows: Tensor) -> None:
        """`output` is `reference`'s rows, to the tolerance."""
        for found, expected in zip(_tensors(output), _tensors(reference), strict=True):
            assert float((found - expected[rows]).abs().max()) <= self.tolerance


def _tensors(output: Output) -> Iterator[Tensor]:
    for tensor in (output.logits, output.low_res_logits, output.scores, output.heat):
        if tensor is not None:
            yield tensor


def _rows(prompts: Prompts, rows: Tensor) -> Prompts:
    return Prompts(
        points=prompts.points[rows],
        point_labels=prompts.point_labels[rows],
        boxes=prompts.boxes[rows],
        masks=None if prompts.masks is None else prompts.masks[rows],
        has_mask=prompts.has_mask[rows],
        class_index=prompts.class_index[rows],
    )


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
