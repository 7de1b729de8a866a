"""Real demo slices with one mask file per organ and instance, converted by the command that is documented."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from medmoe_cli.core.data.index import open_dataset
from tests.tools.cli import medmoe_here
from tests.tools.converting import names
from tests.tools.sources import picture_array

OPTIONS = ("--images", "images", "--labels", "masks", "--class-files", "--allow-unmatched")


def test_slices_with_a_file_per_organ(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "amos_totalseg_slices"
    common = ("--workspace", tmp_path / "ws", "--json")
    ran = medmoe_here(
        *common, "convert", source, "--format", "folder", "--name", "slices", *OPTIONS, "--patient-regex", r"(.+)_\d+"
    )
    assert ran.code == 0, ran.err
    root = tmp_path / "ws" / "datasets" / "slices"
    cases = ["amos_0004_75", "amos_0006_90", "s0114_111", "s0619_32"]
    assert names(root / "labelsTr") == [f"{case}.png" for case in cases]
    labels = json.loads((root / "dataset.json").read_text())["labels"]
    masks = sorted((source / "masks").iterdir())
    stems = {path: next(case for case in cases if path.name.startswith(f"{case}_")) for path in masks}
    organ = {path: path.stem[len(case) + 1 : -len("_000")] for path, case in stems.items()}
    assert set(labels) == {"background", *organ.values()}
    assert {"rib_left_9", "vertebrae_T9", "inferior_vena_cava", "hip_left"} <= set(labels)
    for case in cases:
        expected = np.zeros(picture_array(root / "labelsTr" / f"{case}.png").shape, np.uint8)
        for path in sorted((path for path in masks if stems[path] == case), key=lambda path: labels[organ[path]]):
            expected[picture_array(path) > 127] = labels[organ[path]]
        assert np.array_equal(picture_array(root / "labelsTr" / f"{case}.png"), expected)
    assert {case.patient for case in open_dataset(root).training} == {"amos_0004", "amos_0006", "s0114", "s0619"}
    assert "amos_0507_31" in ran.out
    refused = medmoe_here(*common, "convert", source, "--format", "folder", "--name", "other", *OPTIONS[:-1])
    assert refused.code == 3
    assert "image without a mask" in refused.err
    assert "amos_0507_31.png" in refused.err
