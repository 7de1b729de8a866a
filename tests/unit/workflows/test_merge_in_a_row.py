"""Three experts added one after another: what was there before answers as before, bit by bit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.nn.weights import load_tensors
from medmoe_cli.core.workflows.model_files.model_folder import load_model
from tests.tools.merging import merge, options, standard_workspace
from tests.tools.sam_med3d import answered, point_prompts, volumes

EXPERTS = ("lungs", "bones", "vessels")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return standard_workspace(tmp_path_factory.mktemp("row"), experts=EXPERTS, cases=3)


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def hashes(folder: Path, workspace: Workspace) -> dict[str, str]:
    """Of every tensor outside the gate, and of the masks that the general and each expert make of fixed volumes."""
    found = {}
    for path in (folder / "model.safetensors", *sorted((folder / "experts").iterdir())):
        for name, tensor in load_tensors(path).items():
            if not name.startswith("gate."):
                found[f"{path.stem}: {name}"] = digest(tensor)
    model = load_model(str(folder), workspace=workspace).segmenter
    images, image = volumes(1), torch.zeros(2, dtype=torch.long)
    clicks = point_prompts(torch.tensor([[[9.0, 12.0, 15.0]], [[20.0, 6.0, 11.0]]]))
    # The general decoder alone: a threshold of one never opens.
    found["masks of general"] = digest(answered(model, images, clicks, image).logits)  # type: ignore[arg-type]
    classes = len(list((folder / "experts").iterdir()))
    for index in range(classes):
        named = replace(clicks, class_index=torch.full((2,), 1 + index))
        found[f"masks of {EXPERTS[index]}"] = digest(answered(model, images, named, image).logits)  # type: ignore[arg-type]
    return found


def test_three_experts_in_a_row_change_nothing_of_what_was_there(workspace: Workspace) -> None:
    folder = workspace.root / "merged"
    merge(workspace, options(EXPERTS[0], output=folder, tau=1.0))
    before = hashes(folder, workspace)
    assert len({value for name, value in before.items() if name.startswith("masks")}) == 2
    for count, name in enumerate(EXPERTS[1:], start=2):
        result = merge(workspace, options(name, into=str(folder), tau=1.0))
        assert result.experts == EXPERTS[:count]
        after = hashes(folder, workspace)
        assert {name: after[name] for name in before} == before
        assert len({value for name, value in after.items() if name.startswith("masks")}) == count + 1
        before = after
