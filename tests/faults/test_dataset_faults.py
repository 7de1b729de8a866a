"""check: every seeded fault in one pass, and not a word about clean datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.checks import CODES, CheckReport, check_dataset
from tests.tools.datasets import make_dataset, write_nifti, write_picture
from tests.tools.faults import CASE_FAULTS, DATASET_FAULTS, seed_faults
from tests.tools.sources import AFFINE, nifti_array, picture_array


def check(root: Path, **arguments: Any) -> CheckReport:
    arguments.setdefault("workers", 1)
    arguments.setdefault("splits_folders", ())
    return check_dataset(root, reporter=Silent(), **arguments)


def found(root: Path) -> set[tuple[str, str]]:
    return {(finding.code, finding.case) for finding in check(root).findings}


def edit(root: Path, **keys: Any) -> None:
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_every_fault_in_one_pass(tmp_path: Path) -> None:
    expected = seed_faults(tmp_path / "faulty")
    assert len(expected) == len(CASE_FAULTS) + len(DATASET_FAULTS) >= 49
    report = check(tmp_path / "faulty")
    said = {(finding.code, finding.case) for finding in report.findings}
    assert [fault for fault in expected if (fault.code, fault.case) not in said] == []
    wanted = {(fault.code, fault.case) for fault in expected}
    assert [finding for finding in report.findings if (finding.code, finding.case) not in wanted] == []
    swapped = next(finding for finding in report.findings if finding.case == "case_009")
    assert swapped.message == "image and label: shape 14x12x8 against 12x14x8 (axes are swapped)"
    said_of_keys = " ".join(finding.message for finding in report.findings if finding.code == "json-key")
    assert "names 'cyts', which is no label, did you mean 'cyst'?" in said_of_keys
    assert "'dimensionality' is 4" in said_of_keys
    for finding in report.findings:
        assert finding.code in CODES
        assert finding.message
        assert finding.fix
        assert "\n" not in finding.message


@pytest.mark.parametrize("fault", CASE_FAULTS, ids=[name for name, _, _ in CASE_FAULTS])
def test_each_fault_alone(tmp_path: Path, fault: tuple[str, str, Any]) -> None:
    """One fault gives its own code, and none but those that are true besides."""
    name, code, apply = fault
    root = make_dataset(tmp_path / "one", cases=3, shape=(14, 12, 8), channels=2, affine=np.diag([-1.0, -1, 2, 1]))
    apply(root, "case_001")
    codes = {finding.code for finding in check(root).findings}
    besides = {
        "label without an image": {"num-training"},
        "training case in the test set": {"patient-train-test", "case-duplicate"},
        "case in training and test": {"patient-train-test"},
        "names that differ in case only": {"num-training", "patient-train-test"},
        "test label of another shape": {"num-training"},
        "test label of undeclared values": {"num-training"},
        "test label that is truncated": {"num-training"},
        "test label without an image": {"num-training"},
    }
    assert code in codes
    assert codes - {code} <= besides.get(name, set())


CLEAN: tuple[dict[str, Any], ...] = (
    {},
    {"cases": 1},
    {"cases": 9, "seed": 3},
    {"channels": 2},
    {"channels": 3, "tests": 2},
    {"classes": 1},
    {"classes": 5},
    {"tests": 3, "cases_per_patient": 2},
    {"shape": (9, 30, 4)},
    {"spacing_mm": (0.4, 0.4, 8.0)},
    {"spacing_mm": (3.0, 0.5, 0.5)},
    {"affine": AFFINE},
    {"affine": np.array([[0, 0, 2.0, 4], [-1.1, 0, 0, 9], [0, 0.7, 0, -3], [0, 0, 0, 1]])},
    {"shape": (20, 18, 1), "spacing_mm": (1, 1, 999.0)},
    {"ending": ".nii"},
    {"dims": 2},
    {"dims": 2, "colour": True},
    {"dims": 2, "channels": 2},
    {"dims": 2, "classes": 1, "cases": 3, "tests": 3, "cases_per_patient": 3},
    {"dims": 2, "shape": (31, 17), "seed": 8},
)


@pytest.mark.parametrize("arguments", CLEAN, ids=[str(number) for number in range(len(CLEAN))])
def test_clean_datasets_have_no_finding(tmp_path: Path, arguments: dict[str, Any]) -> None:
    assert check(make_dataset(tmp_path / "clean", **{"shape": None, **arguments})).findings == ()


def test_workers_change_nothing(tmp_path: Path) -> None:
    seed_faults(tmp_path / "faulty")
    assert check(tmp_path / "faulty", workers=2) == check(tmp_path / "faulty", workers=1)


def test_all_background(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    for path in (root / "labelsTr").iterdir():
        write_nifti(path, np.zeros_like(nifti_array(path)), np.diag([-1.0, -1, 2, 1]))
    assert found(root) == {("label-empty", "case_000"), ("label-empty", "case_001"), ("all-background", "")}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "json-missing"),
        ("{", "json-invalid"),
        ("[]", "json-invalid"),
        ('{"labels": {"0": "background", "1": "x"}, "modality": {"0": "CT"}}', "json-format"),
        ("{}", "json-key"),
    ],
)
def test_an_unusable_dataset_json(tmp_path: Path, text: str | None, code: str) -> None:
    root = make_dataset(tmp_path / "ds", cases=1)
    (root / "dataset.json").unlink()
    if text is not None:
        (root / "dataset.json").write_text(text)
    assert {finding.code for finding in check(root).findings} == {code}


def test_keys_of_dataset_json(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=1)
    edit(root, labels={"background": 0, "a": [1, 2], "ignore": 3}, file_ending="gz")
    assert {finding.code for finding in check(root).findings} == {"labels-regions", "labels-ignore", "json-key"}


def test_an_empty_folder_and_no_cases(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert {code for code, _ in found(tmp_path / "none")} == {"json-missing"}
    root = make_dataset(tmp_path / "ds", cases=1)
    shutil.rmtree(root / "imagesTr")
    shutil.rmtree(root / "labelsTr")
    assert ("no-cases", "") in found(root)


def test_picture_faults(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", dims=2, cases=8)
    images, labels = root / "imagesTr", root / "labelsTr"
    grey = picture_array(images / "case_001_0000.png").T
    write_picture(images / "case_001_0000.png", np.stack([grey, grey, 255 - grey], axis=-1))
    write_picture(labels / "case_002.png", picture_array(labels / "case_002.png").T[:-3])
    (images / "case_003_0000.png").write_bytes((images / "case_003_0000.png").read_bytes()[:-90])
    (images / "case_004_0000.png").write_bytes(b"GIF89a not a png")
    write_picture(labels / "case_005.png", picture_array(labels / "case_005.png").T * 127)
    mask = picture_array(labels / "case_006.png").T
    write_picture(labels / "case_006.png", np.stack([mask, mask * 0, mask], axis=-1))
    write_nifti(root / "more.nii.gz", np.zeros((4, 4, 4), np.int16), AFFINE)
    assert found(root) == {
        ("image-channels", "case_001"),
        ("label-shape", "case_002"),
        ("file-corrupt", "case_003"),
        ("file-format", "case_004"),
        ("label-values", "case_005"),
        ("label-4d", "case_006"),
    }


def test_slices_among_volumes(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=3)
    for path in (root / "imagesTr" / "case_001_0000.nii.gz", root / "labelsTr" / "case_001.nii.gz"):
        write_nifti(path, nifti_array(path)[:, :, 5:6], np.diag([-1.0, -1, 2, 1]))
    assert found(root) == {("dimensions-mixed", "case_001")}


def test_a_rounded_header_is_a_warning(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=2)
    rounded = np.diag([-1.0, -1, 2, 1])
    rounded[:3, 3] = 0.03
    path = root / "labelsTr" / "case_001.nii.gz"
    write_nifti(path, nifti_array(path), rounded)
    report = check(root)
    assert [(finding.code, finding.severity) for finding in report.findings] == [("grid-rounding", "warning")]
    assert report.errors == ()


def test_splits_beside_the_preprocessed_data_are_checked_too(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "ds", cases=4, cases_per_patient=2)
    folder = tmp_path / "preprocessed"
    folder.mkdir()
    splits = [{"train": ["case_000", "case_002", "case_003"], "val": ["case_001"]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    assert [finding.code for finding in check(root, splits_folders=(folder,)).findings] == ["splits-patient"]
    (folder / "splits_final.json").write_text("{}")
    assert [finding.code for finding in check(root, splits_folders=(folder,)).findings] == ["splits-invalid"]


def test_memory_is_one_case_at_a_time(tmp_path: Path) -> None:
    import tracemalloc

    def peak(cases: int) -> int:
        root = make_dataset(tmp_path / str(cases), cases=cases, shape=(64, 64, 32))
        tracemalloc.start()
        check(root)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    voxels = 64 * 64 * 32 * 2
    assert peak(8) < peak(2) + voxels
