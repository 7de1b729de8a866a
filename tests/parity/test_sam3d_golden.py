"""SAM-Med3D against recorded outputs of the public code, with weights that both made from the parameters' names."""

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from medmoe_cli.core.nn.sam3d import NEW_TENSORS, Sam3dParts, sam3d_size
from tests.tools.sam3d import no_boxes


@pytest.fixture(scope="module")
def golden(real_data: Path) -> Path:
    folder = real_data.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no recorded outputs at {folder}, beside the real scans")
    return folder


@pytest.fixture(scope="module")
def keys(golden: Path) -> dict[str, tuple[int, ...]]:
    listed = json.loads((golden / "sam_med3d_vit_b_keys.json").read_text())
    return {name: tuple(shape) for name, shape in listed.items()}


def named_values(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    values = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    if name.endswith("weight") and len(shape) == 1:
        values += 1
    if name.endswith("positional_encoding_gaussian_matrix"):
        values *= 50
    return torch.from_numpy(values)


@pytest.fixture(scope="module")
def run(golden: Path, keys: dict[str, tuple[int, ...]]) -> SimpleNamespace:
    """The model with the named weights, the recorded arrays, and what the model makes of the recorded input."""
    parts = Sam3dParts(sam3d_size("sam-med3d")).eval()
    found = parts.load_state_dict({name: named_values(name, shape) for name, shape in keys.items()}, strict=False)
    assert not found.unexpected_keys
    generator = np.random.default_rng(7)
    volume = torch.from_numpy(generator.standard_normal((1, 1, 128, 128, 128), dtype=np.float32))
    mask = torch.from_numpy(generator.standard_normal((1, 1, 32, 32, 32), dtype=np.float32))
    with np.load(golden / "sam_med3d_vit_b.npz") as archive:
        recorded = {name: torch.from_numpy(archive[name]) for name in archive}
    with torch.no_grad():
        embedding = parts.image_encoder(volume)
    return SimpleNamespace(parts=parts, recorded=recorded, mask=mask, embedding=embedding)


def assert_recorded(run: SimpleNamespace, name: str, found: Tensor) -> None:
    expected = run.recorded[name]
    assert found.shape == expected.shape, name
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max()), name


def test_every_name_and_shape_is_the_public_checkpoints(keys: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        own = {name: tuple(t.shape) for name, t in Sam3dParts(sam3d_size("sam-med3d")).state_dict().items()}
    assert {name: own.pop(name) for name in NEW_TENSORS} == dict.fromkeys(NEW_TENSORS, (1, 384))
    assert own == keys
    assert len(own) == 324


def test_the_embedding_is_the_recorded_one(run: SimpleNamespace) -> None:
    assert_recorded(run, "image_embedding_sample", run.embedding[:, ::16])


@pytest.mark.parametrize("case", ["mask", "nomask"])
def test_prompts_and_masks_are_the_recorded_ones(run: SimpleNamespace, case: str) -> None:
    parts = run.parts
    # Recorded points are voxel indices along D, H, W; prompts are x, y, z with a voxel's centre at + 0.5.
    points = run.recorded["points"].flip(-1) + 0.5
    has_mask = torch.tensor([False]) if case == "nomask" else None
    with torch.no_grad():
        positions = parts.prompt_encoder.dense_positions()
        sparse, dense = parts.prompt_encoder(points, run.recorded["labels"], no_boxes(1), run.mask, has_mask_Q=has_mask)
        three = parts.mask_decoder(run.embedding, positions, sparse, dense, multimask=True)
        one = parts.mask_decoder(run.embedding, positions, sparse, dense, multimask=False)
    assert_recorded(run, "dense_pe_sample", positions[:, ::16])
    assert sparse.used.tolist() == [[True, True, True, True, False, False]]
    assert_recorded(run, f"{case}_sparse", sparse.values[sparse.used][None])
    assert_recorded(run, f"{case}_dense_sample", dense[:, ::32, ::2, ::2, ::2])
    assert_recorded(run, f"{case}_low_res_masks_sample", three[0][:, :, ::4, ::4, ::4])
    assert_recorded(run, f"{case}_iou", three[1])
    assert_recorded(run, f"{case}_low_res_mask0_sample", one[0][:, :, ::4, ::4, ::4])
    assert_recorded(run, f"{case}_iou0", one[1])
