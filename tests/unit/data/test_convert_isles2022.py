"""ISLES 2022: both layouts, FLAIR on its own grid, masks that are empty, hidden test cases."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, MedMoEError
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.workflows.convert import ConvertResult
from tests.tools.converting import convert, dataset_json, lines_of, names
from tests.tools.datasets import write_nifti
from tests.tools.sources import AFFINE, nifti_array
from tests.tools.sources_contrasts import SHAPE, add_stroke, make_isles, mask, ramp, scan

CASE = "sub-strokecase0001_ses-0001"
FLAIR_NOTE = "FLAIR resampled from its own grid to that of DWI (linear)"


def grids(result: ConvertResult) -> dict[str, int]:
    return {row.what: row.cases for row in result.written.grids}


@pytest.mark.parametrize("flat", [False, True])
def test_both_layouts_give_one_dataset_layout(tmp_path: Path, flat: bool) -> None:
    source = make_isles(tmp_path / "in", flat=flat)
    assert recognise(source) == "isles2022"
    result = convert(tmp_path, source, "isles2022")
    root = result.written.root
    assert dataset_json(result)["channel_names"] == {"0": "DWI", "1": "ADC", "2": "FLAIR"}
    assert dataset_json(result)["labels"] == {"background": 0, "infarct": 1}
    assert names(root / "labelsTr") == [f"sub-strokecase{n:04d}_ses-0001.nii.gz" for n in (1, 2, 150)]
    assert [name for name in names(root / "imagesTs") if name.endswith("_0002.nii.gz")] == [
        "sub-strokecase0251_ses-0001_0002.nii.gz"
    ]
    assert np.array_equal(nifti_array(root / "labelsTr" / f"{CASE}.nii.gz"), mask(1))
    for channel in (0, 1):
        written = nib.load(root / "imagesTr" / f"{CASE}_{channel:04d}.nii.gz")
        assert np.array_equal(np.asanyarray(written.dataobj), scan(1, channel))
        np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
    assert {case.patient for case in open_dataset(root).training} == {f"sub-strokecase{n:04d}" for n in (1, 2, 150)}
    assert not result.written.failed


def test_flair_is_brought_to_the_grid_of_dwi_layout(tmp_path: Path) -> None:
    result = convert(tmp_path, make_isles(tmp_path / "in", flat=True), "isles2022")
    flair = nib.load(result.written.root / "imagesTr" / f"{CASE}_0002.nii.gz")
    assert flair.shape == SHAPE
    np.testing.assert_allclose(flair.affine, AFFINE, atol=1e-6)
    expected = ramp(SHAPE, AFFINE)
    inside = (slice(1, -1), slice(1, -1), slice(2, -2))  # beyond the outer slices' centres nothing can be linear
    np.testing.assert_allclose(np.asanyarray(flair.dataobj)[inside], expected[inside], atol=0.01)
    assert grids(result) == {FLAIR_NOTE: 4}
    assert "an empty mask, kept: there is nothing to find (1 cases)" in result.written.notes
    assert any("1 cases of the hidden test set" in note for note in result.written.notes)


def test_a_subset_leaves_flair_out_layout(tmp_path: Path) -> None:
    source = make_isles(tmp_path / "in", flat=False)
    result = convert(tmp_path, source, "isles2022", subset=("adc",))
    assert dataset_json(result)["channel_names"] == {"0": "ADC"}
    assert np.array_equal(nifti_array(result.written.root / "imagesTr" / f"{CASE}_0000.nii.gz"), scan(1, 1))
    with pytest.raises(ConfigError, match="did you mean 'FLAIR'"):
        convert(tmp_path, source, "isles2022", name="other", subset=("flare",))


def test_each_grid_is_checked_and_the_mask_never_moved_layout(tmp_path: Path) -> None:
    source = make_isles(tmp_path / "in", flat=True)
    top = source / "dataset"
    moved = AFFINE.copy()
    moved[:3, 3] += 8
    rounded = AFFINE.copy()
    rounded[:3, 3] += 0.02
    write_nifti(add_stroke(top, 1, flat=True)["msk"], mask(1).astype(np.uint16), moved)
    write_nifti(add_stroke(top, 2, flat=True)["msk"], mask(2).astype(np.uint16), rounded)
    write_nifti(add_stroke(top, 3, flat=True)["adc"], scan(3, 1), moved)
    write_nifti(add_stroke(top, 4, flat=True)["msk"], (mask(4) * 2).astype(np.uint16), AFFINE)
    add_stroke(top, 5, flat=True)["flair"].unlink()
    add_stroke(top, 6, flat=True, label=False)
    result = convert(tmp_path, source, "isles2022")
    reasons = {one.what[:18]: one.why for one in result.written.failed}
    assert reasons.keys() == {"sub-strokecase0001", "sub-strokecase0004"}
    assert "label on another grid" in reasons["sub-strokecase0001"]
    assert "2 (22 voxels); declared are 1" in reasons["sub-strokecase0004"]
    skipped = {one.what[:18]: one.why for one in result.written.skipped}
    assert skipped == {
        "sub-strokecase0005": "it has no FLAIR",
        "sub-strokecase0006": "it has no mask below derivatives/",
    }
    assert grids(result)["ADC resampled from its own grid to that of DWI (linear)"] == 1
    assert grids(result)["label header differs from the image's by rounding; the image's is used"] == 1
    label = nib.load(result.written.root / "labelsTr" / "sub-strokecase0002_ses-0001.nii.gz")
    np.testing.assert_allclose(label.affine, AFFINE, atol=1e-6)


def test_the_two_layouts_together_are_refused_layout(tmp_path: Path) -> None:
    add_stroke(tmp_path / "in", 1, flat=True)
    add_stroke(tmp_path / "in", 1, flat=False)
    with pytest.raises(MedMoEError) as caught:
        convert(tmp_path, tmp_path / "in", "isles2022")
    found = lines_of(caught.value)
    assert len(found) == 3
    assert any(line.startswith(f"two files of {CASE} DWI") for line in found)


def test_a_real_case(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "isles2022"
    assert recognise(source) == "isles2022"
    result = convert(tmp_path, source, "isles2022")
    root, case = result.written.root, "sub-strokecase0009_ses-0001"
    raw = source / "rawdata" / "sub-strokecase0009" / "ses-0001"
    for channel, contrast in enumerate(("dwi", "adc")):
        theirs = nib.load(raw / f"{case}_{contrast}.nii.gz")
        ours = nib.load(root / "imagesTr" / f"{case}_000{channel}.nii.gz")
        assert np.array_equal(np.asanyarray(theirs.dataobj), np.asanyarray(ours.dataobj))
        assert np.array_equal(theirs.affine, ours.affine)
    truth = nib.load(source / "derivatives" / "sub-strokecase0009" / "ses-0001" / f"{case}_msk.nii.gz")
    label = nib.load(root / "labelsTr" / f"{case}.nii.gz")
    assert np.array_equal(np.asanyarray(truth.dataobj), np.asanyarray(label.dataobj))
    np.testing.assert_allclose(label.affine, truth.affine, atol=1e-3)
    flair = nib.load(root / "imagesTr" / f"{case}_0002.nii.gz")
    assert flair.shape == (112, 112, 73)
    assert grids(result)[FLAIR_NOTE] == 1
    # What lies where: FLAIR and DWI show one head, so their bright regions overlap.
    heads = [np.asanyarray(image.dataobj) for image in (flair, nib.load(root / "imagesTr" / f"{case}_0000.nii.gz"))]
    one, other = (head > 0.2 * np.percentile(head, 99) for head in heads)
    assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.8
