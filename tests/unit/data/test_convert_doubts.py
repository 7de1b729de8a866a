"""What a conversion says where a source leaves room for doubt, on layout-faithful fixtures of the releases."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.data.dataset_file import channel_modality
from tests.tools.converting import convert, dataset_json, lines_of
from tests.tools.datasets import write_nifti, write_picture
from tests.tools.sources import AFFINE, make_imed361m, make_msd, make_pictures, make_ssl4mis
from tests.tools.sources_abdomen import make_amos, make_btcv, make_segthor, make_word
from tests.tools.sources_chaos import make_chaos
from tests.tools.sources_dicom import make_seg, make_series
from tests.tools.sources_hearts import make_acdc
from tests.tools.sources_isic import make_isic
from tests.tools.sources_sam_med3d import make_collection
from tests.tools.sources_totalsegmentator import make_ct


def why(caught: pytest.ExceptionInfo[Exception]) -> str:
    return " | ".join(lines_of(caught.value))  # type: ignore[arg-type]


# Which release is it? ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folders", ["", "WORD-V0.1.0", "download/extra/WORD-V0.1.0"])
def test_word_is_word_however_deep_it_lies(tmp_path: Path, folders: str) -> None:
    make_word(tmp_path / "source" / folders)
    assert convert(tmp_path, tmp_path / "source", "auto").format == "word"


def test_one_class_of_one_dataset_is_still_sam_med3d(tmp_path: Path) -> None:
    collection = make_collection(tmp_path / "whole")
    places = (path.parent for path in sorted(collection.glob("**/labelsTr")))
    place = next(path for path in places if any((path / "imagesTr").glob("*")))
    shutil.copytree(place, tmp_path / "part" / place.parent.name / place.name)
    assert convert(tmp_path, tmp_path / "part", "auto").format == "sam-med3d"


@pytest.mark.parametrize(("make", "named"), [(make_msd, "msd"), (make_imed361m, "imed361m"), (make_word, "word")])
def test_a_wrong_format_is_told_what_lies_in_the_inner_folder(tmp_path: Path, make, named: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "outer" / "Inner")
    with pytest.raises(DataError, match=f"not a source of format acdc.*it looks like {named}.*--format {named}"):
        convert(tmp_path, tmp_path / "outer", "acdc")


def test_plain_files_are_told_what_the_format_would_be(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "source")
    with pytest.raises(DataError, match=r"it looks like folder, plain files; btcv is .*"):
        convert(tmp_path, source, "btcv")


def test_releases_beside_each_other_are_several_datasets(tmp_path: Path) -> None:
    for name in ("Task06_Lung", "Task09_Spleen"):
        make_msd(tmp_path / "source" / name)
    with pytest.raises(ConfigError, match=r"several releases in one folder.*Task06_Lung \(msd\), Task09_S"):
        convert(tmp_path, tmp_path / "source", "auto")


def test_a_broken_dataset_json_is_the_reason(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "source")
    (source / "dataset.json").write_text('{"name": "x",}')
    with pytest.raises(DataError, match=r"not valid JSON in .*dataset\.json"):
        convert(tmp_path, source, "auto")


def test_archives_that_are_not_read_are_named(tmp_path: Path) -> None:
    source = make_btcv(tmp_path / "source")
    with zipfile.ZipFile(source / "labels.zip", "w") as archive:
        archive.writestr("readme.txt", "more")
    notes = convert(tmp_path, source, "btcv").written.notes
    assert any("not read, unpack them first: labels.zip" in note for note in notes)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "release.7z").write_bytes(b"7z")
    with pytest.raises(DataError, match=r"unpack release\.7z first"):
        convert(tmp_path, tmp_path / "packed", "auto", name="packed")
    with pytest.raises(DataError, match="an archive that is not read here"):
        convert(tmp_path, tmp_path / "packed" / "release.7z", "auto", name="packed")


# What do the options mean? -------------------------------------------------------------------------------------------


def test_a_pattern_for_patients_matches_every_case(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "source", cases=4)
    with pytest.raises(ConfigError, match=r"--patient-regex does not match 4 of 4 case ids.*scan_0, scan_1"):
        convert(tmp_path, source, "folder", label_names=("lung",), patient_regex=r"patient(\d)")
    found = convert(tmp_path, source, "folder", label_names=("lung",), patient_regex=r"(scan)")
    assert found.written.patients == 1  # a match anywhere counts, not only one of the whole id


@pytest.mark.parametrize("spacing", [(1.0, 1.0, -1.0), (0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0), (1e9, 1.0, 1.0)])
def test_a_spacing_that_is_none(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="is no voxel size"):
        convert(tmp_path, make_ssl4mis(tmp_path / "source"), "ssl4mis-h5", spacing_mm=spacing)


# What is in the files? -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [160, 700])
def test_a_slice_cut_short_fails_its_series_by_name(tmp_path: Path, kept: int) -> None:
    source = tmp_path / "source"
    for name in ("a", "b"):
        made = make_series(source / name / "ct", patient=name)
        mask = np.zeros(made.voxels.shape, bool)
        mask[1:3, 2:5, 2:5] = True
        make_seg(source / name / "seg.dcm", made, {"liver": mask})
    last = sorted((source / "a" / "ct").glob("*.dcm"))[0]
    last.write_bytes(last.read_bytes()[:kept])
    written = convert(tmp_path, source, "dicom").written
    (failed,) = written.failed
    assert (failed.what, written.training) == ("a_ct", 1)
    assert str(last) in failed.why


def test_a_label_that_ends_before_its_image_is_refused(tmp_path: Path) -> None:
    source = make_word(tmp_path / "source")
    path = source / "labelsTr" / "word_0002.nii.gz"
    label = np.asarray(nib.load(path).dataobj)
    empty = label.copy()
    empty[..., -1] = 0  # nothing is lost with the slice, but nobody looked at it either
    write_nifti(path, empty[..., :-1], AFFINE)
    (failed,) = convert(tmp_path, source, "word").written.failed
    assert "label that does not reach over its image" in failed.why


def test_colour_masks_are_called_that(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "source")
    for path in (source / "masks").iterdir():
        mask = np.zeros((48, 40, 3), np.uint8)
        mask[4:20, 4:20, 0], mask[24:40, 4:20, 2] = 255, 255
        write_picture(path, mask)
    with pytest.raises(DataError, match="a label in colours"):
        convert(tmp_path, source, "folder", label_names=("a", "b"))


def test_label_values_of_amos_in_another_order_stop(tmp_path: Path) -> None:
    source = make_amos(tmp_path / "source")
    content = json.loads((source / "dataset.json").read_text())
    content["labels"] |= {"1": "liver", "6": "spleen"}
    (source / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"label values of another order than AMOS.*1 is liver, not spleen"):
        convert(tmp_path, source, "amos")


def test_labels_without_any_class_are_counted(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "source")
    write_picture(source / "masks" / "scan_1_mask.png", np.zeros((48, 40), np.uint8))
    notes = convert(tmp_path, source, "folder", label_names=("lung",)).written.notes
    assert "1 labelled cases show no class at all: scan_1" in notes


def test_masks_named_as_their_slices_are_believed(tmp_path: Path) -> None:
    source = make_chaos(tmp_path / "source", ids=(1, 10), test_ids=())
    for ground in source.glob("Train_Sets/MR/*/T2SPIR/Ground"):
        paths = sorted(ground.glob("*.png"))
        contents = [path.read_bytes() for path in paths]
        for path, content in zip(paths, reversed(contents), strict=True):
            path.write_bytes(content)
    written = convert(tmp_path, source, "chaos", subset=("t2",)).written
    assert not written.failed
    assert any("fit the intensities better in reverse order: look at them (2 cases)" in note for note in written.notes)


# What is said at the end? --------------------------------------------------------------------------------------------


def test_lists_of_ssl4mis_are_its_split(tmp_path: Path) -> None:
    source = make_ssl4mis(tmp_path / "source")
    assert any("not known here" in note for note in convert(tmp_path, source, "ssl4mis-h5", **SPACING).written.notes)
    make_ssl4mis(tmp_path / "more")
    for number in (1, 2):
        for path in sorted((tmp_path / "more").glob(f"patient{number:03d}*.h5")):
            path.rename(source / path.name.replace(f"patient{number:03d}", f"patient{number + 2:03d}"))
    (source / "train_slices.list").write_text("patient001_frame01_slice_1\npatient001_frame02_slice_2\n")
    (source / "val.list").write_text("patient002_frame01\npatient002_frame02\n")
    (source / "test.list").write_text("patient003_frame01\npatient003_frame02\npatient099_frame01\n")
    found = convert(tmp_path, source, "ssl4mis-h5", name="split", **SPACING)
    assert (found.written.training, found.written.test, found.written.labelled_test) == (6, 2, 2)
    (fold,) = json.loads((found.written.root / "splits_final.json").read_text())
    assert fold["val"] == ["patient002_frame01", "patient002_frame02"]
    assert set(fold["train"]) == {f"patient{n:03d}_frame{f:02d}" for n in (1, 4) for f in (1, 2)}
    notes = " | ".join(found.written.notes)
    assert "2 volumes are in no list, they train: patient004_frame01, patient004_frame02" in notes
    assert "1 volumes of the lists are not here: patient099_frame01" in notes


SPACING = {"spacing_mm": (1.5, 1.5, 10.0)}


def test_the_split_is_that_of_what_was_written(tmp_path: Path) -> None:
    source = make_word(tmp_path / "source")
    assert convert(tmp_path, source, "word").written.split.startswith(
        "official folds in splits_final.json (the release's 100/20): 2 train / 1 val; 1 test cases"
    )
    (source / "labelsVal" / "word_0001.nii.gz").write_bytes(b"\x1f\x8b damaged")
    lost = convert(tmp_path, source, "word", name="lost").written
    assert lost.split.startswith("the published fold has no case here on one of its sides: folds are made by patient")
    assert not any("1 validation" in note for note in lost.notes)
    btcv = convert(tmp_path, make_btcv(tmp_path / "btcv", (1, 2, 35)), "btcv", name="btcv").written
    assert btcv.split.startswith("published folds in splits_final.json (Swin UNETR's 24/6): 2 train / 1 val")


def test_only_cases_are_counted_as_found(tmp_path: Path) -> None:
    written = convert(tmp_path, make_segthor(tmp_path / "source"), "segthor").written
    assert any("GT2" in one.what for one in written.skipped)
    assert written.found == written.training + written.test == 4


def test_subjects_that_were_left_out_are_here_all_the_same(tmp_path: Path) -> None:
    source = make_ct(tmp_path / "source")
    shutil.rmtree(source / "s0011" / "segmentations")
    shutil.rmtree(source / "s0003")
    written = convert(tmp_path, source, "totalsegmentator").written
    assert any(one.what == "s0011" for one in written.skipped)
    assert "1 subjects of meta.csv are not here: s0003" in written.notes


def test_patients_in_the_other_part_are_named(tmp_path: Path) -> None:
    source = make_acdc(tmp_path / "source")
    shutil.move(source / "database/testing/patient101", source / "database/training/patient101")
    written = convert(tmp_path, source, "acdc").written
    assert "patients in the other part's folder, their numbers count: patient101" in written.notes
    assert written.test == 2


def test_one_picture_in_two_parts_is_named_twice(tmp_path: Path) -> None:
    source = make_isic(tmp_path / "source", "2016")
    (training,) = source.rglob("ISIC_0000001.jpg")
    target = next(path for path in source.rglob("*.jpg") if path.parent != training.parent).parent
    shutil.copy(training, target / training.name)
    with pytest.raises(DataError) as caught:
        convert(tmp_path, source, "isic")
    assert "cases of one name" in why(caught)
    assert str(training) in why(caught)
    assert str(target / training.name) in why(caught)
    assert "remove one of each" in why(caught)


@pytest.mark.parametrize(
    ("channels", "modality"),
    [
        (("CT",), "CT"),
        (("T1w", "FLAIR", "t2"), "MR"),
        (("MRI",), "MR"),
        (("CT", "PET"), ""),
        (("image",), ""),
        (("R", "G", "B"), ""),
    ],
)
def test_channels_tell_the_modality_that_they_agree_on(channels: tuple[str, ...], modality: str) -> None:
    assert channel_modality(channels) == modality


def test_a_dry_run_says_what_it_did_not_look_at(tmp_path: Path) -> None:
    notes = convert(tmp_path, make_btcv(tmp_path / "source"), "btcv", dry_run=True).written.notes
    assert "values and grids are looked at when it is written" in notes


def test_a_dataset_of_test_cases_alone_says_so(tmp_path: Path) -> None:
    source = make_chaos(tmp_path / "source", ids=(), test_ids=(4,))
    found = convert(tmp_path, source, "chaos", subset=("ct",))
    assert "no training case: there is nothing to train on" in found.written.notes
    assert dataset_json(found)["numTraining"] == 0
