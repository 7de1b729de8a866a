"""Public SAM-Med3D weights answer prompts without any training: a file of the public layout, added and asked."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medmoe_cli.core.nn.backbones import backbone_parts
from medmoe_cli.core.nn.sam3d import NEW_TENSORS
from tests.tools.cli import assert_one_line_error, medmoe_here
from tests.tools.datasets import write_nifti


@pytest.mark.slow
def test_an_added_file_predicts_at_its_real_size(tmp_path: Path) -> None:
    """A hundred million parameters at random, nested beside an argparse.Namespace as in sam_med3d_turbo.pth."""
    torch.manual_seed(0)
    parts = backbone_parts("sam-med3d").state_dict()
    state = {f"module.{name}": tensor.half() for name, tensor in parts.items() if name not in NEW_TENSORS}
    path = tmp_path / "sam_med3d_turbo.pth"
    torch.save({"epoch": 3, "model_state_dict": state, "args": argparse.Namespace(lr=8e-4, gpu_ids=[0])}, path)
    where = ("--workspace", tmp_path / "home")
    added = medmoe_here(*where, "models", "add", "sam-med3d", path)
    assert added.code == 0, added.err
    affine = np.diag([-0.8, 1.1, 2.0, 1.0])
    write_nifti(tmp_path / "scans" / "a.nii.gz", np.random.default_rng(0).gamma(2, 100, (60, 50, 30)), affine)
    entries = [{"label": "head", "box": [10, 20, 10, 25, 40, 25]}, {"label": "tail", "points": [[15, 15, 15, 1]]}]
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"schema": 1, "space": "voxel", "axes": "xyz", "cases": {"a": entries}}))
    asked = (*where, "predict", "-m", "sam-med3d", "-i", tmp_path / "scans", "-d", "cpu")
    ran = medmoe_here(*asked, "-o", tmp_path / "masks", "--prompts", prompts)
    assert ran.code == 0, ran.err
    mask = nib.load(tmp_path / "masks" / "a.nii.gz")
    assert mask.shape == (60, 50, 30)
    np.testing.assert_array_equal(mask.affine, nib.load(tmp_path / "scans" / "a.nii.gz").affine)
    names = json.loads((tmp_path / "masks" / "dataset.json").read_text())["labels"]
    assert names == {"background": 0, "head": 1, "tail": 2}
    bare = medmoe_here(*asked, "-o", tmp_path / "none")
    assert_one_line_error(bare, 2, "needs prompts", "sam-med3d", "fix: add --prompts prompts.json")
