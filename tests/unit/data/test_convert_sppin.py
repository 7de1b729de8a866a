"""SPPIN: several scans of a patient, contrasts that are not registered, names that are not certain."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.index import open_dataset
from tests.tools.converting import convert, dataset_json, names
from tests.tools.datasets import write_nifti
from tests.tools.sources import AFFINE, nifti_array
from tests.tools.sources_contrasts import SHAPE, add_tumour, make_sppin, mask, ramp, scan


def test_the_annotated_contrast_by_patient_layout(tmp_path: Path) -> None:
    source = make_sppin(tmp_path / "in")
    assert recognise(source) == "sppin"
    result = convert(tmp_path, source, "sppin")
    root = result.written.root
    cases = ["PT_06_20180628", "PT_06_20181105", "PT_07_20190101"]
    assert names(root / "imagesTr") == [f"{case}_0000.nii.gz" for case in cases]
    assert dataset_json(result)["channel_names"] == {"0": "T1_gd"}
    assert dataset_json(result)["labels"] == {"background": 0, "neuroblastoma": 1}
    assert dataset_json(result)["patients"]["PT_06_20181105"] == "PT_06"
    assert {case.patient for case in open_dataset(root).training} == {"PT_06", "PT_07"}
    assert np.array_equal(nifti_array(root / "labelsTr" / "PT_06_20180628.nii.gz"), mask(628))
    written = nib.load(root / "imagesTr" / "PT_06_20180628_0000.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), scan(628).astype(np.int16))
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
    assert any(note.startswith("3 scans of 2 patients; published counts") for note in result.written.notes)
    assert any("--subset T1_gd,T2,DWI_b0,DWI_b100" in note for note in result.written.notes)


def test_more_contrasts_are_placed_by_their_headers_layout(tmp_path: Path) -> None:
    result = convert(tmp_path, make_sppin(tmp_path / "in"), "sppin", subset=("t2", "T1_gd"))
    root = result.written.root
    assert dataset_json(result)["channel_names"] == {"0": "T1_gd", "1": "T2"}
    t2 = nib.load(root / "imagesTr" / "PT_07_20190101_0001.nii.gz")
    assert t2.shape == SHAPE
    inside = (slice(1, -1), slice(1, -1), slice(2, -2))
    np.testing.assert_allclose(np.asanyarray(t2.dataobj)[inside], ramp(SHAPE, AFFINE)[inside], atol=0.01)
    (row,) = result.written.grids
    assert (row.what, row.cases) == ("T2 resampled from its own grid to that of T1_gd (linear)", 3)
    assert any("did not register them" in note for note in result.written.notes)


def test_other_names_withdrawn_patients_and_gaps_are_reported_layout(tmp_path: Path) -> None:
    source = make_sppin(tmp_path / "in")
    add_tumour(source, 20, "20170101")
    add_tumour(source, 8, "20200202")["NB"].unlink()
    odd = add_tumour(source, 9, "20200303")["T1_gd"]
    odd.rename(odd.with_name("PT_09_T1_GADO_20200303.nii"))
    write_nifti(add_tumour(source, 10, "20200404")["NB"], mask(1004) * 255, AFFINE)
    result = convert(tmp_path, source, "sppin")
    skipped = {one.what.split("/")[-1]: one.why for one in result.written.skipped}
    assert skipped["PT_20_NB_20170101.nii.gz"] == "the authors withdrew this patient's files (August 2023)"
    assert skipped["PT_08_20200202"] == "it has no NB"
    assert skipped["PT_09_20200303"] == "it has no T1_gd"
    assert "another name than SPPIN's" in skipped["PT_09_T1_GADO_20200303.nii"]
    ((what, why),) = [(one.what, one.why) for one in result.written.failed]
    assert what == "PT_10_20200404"
    assert "255 (18 voxels); declared are 1" in why
    assert result.written.training == 3
