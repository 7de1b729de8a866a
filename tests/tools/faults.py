"""A dataset with one seeded fault per case (and some in its JSON files), and what `check` should say about each.

Faults are made with nibabel and plain bytes, never with the project's own writers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.tools.datasets import make_dataset, write_nifti

SHAPE = (14, 12, 8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


@dataclass(frozen=True)
class Expected:
    """A finding that must be there: its code and the case it names ('' for faults of the whole dataset)."""

    fault: str
    code: str
    case: str


def image(root: Path, case: str, channel: int = 0) -> Path:
    """A case's image file."""
    return root / "imagesTr" / f"{case}_{channel:04d}.nii.gz"


def label(root: Path, case: str) -> Path:
    """A case's label file."""
    return root / "labelsTr" / f"{case}.nii.gz"


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    old = nib.load(path)
    data = change(np.asanyarray(old.dataobj))
    write_nifti(path, data, old.affine if affine is None else affine)


def _keep(data: np.ndarray) -> np.ndarray:
    return data


def _label_missing(root: Path, case: str) -> None:
    label(root, case).unlink()


def _image_missing(root: Path, case: str) -> None:
    for channel in (0, 1):
        image(root, case, channel).unlink()


def _channel_missing(root: Path, case: str) -> None:
    image(root, case, 1).unlink()


def _channel_extra(root: Path, case: str) -> None:
    _rewrite_copy(image(root, case, 1), image(root, case, 2), seed=1)


def _rewrite_copy(source: Path, target: Path, seed: int) -> None:
    data = np.asanyarray(nib.load(source).dataobj)
    write_nifti(target, data + np.random.default_rng(seed).integers(1, 5, data.shape, dtype=np.int16), AFFINE)


def _shape(root: Path, case: str) -> None:
    _rewrite(label(root, case), lambda data: data[:-1])


def _axes_swapped(root: Path, case: str) -> None:
    _rewrite(label(root, case), lambda data: data.transpose(1, 0, 2))


def _two_dimensional(root: Path, case: str) -> None:
    _rewrite(label(root, case), lambda data: data[:, :, 4])


def _spacing(root: Path, case: str) -> None:
    _rewrite(label(root, case), _keep, AFFINE @ np.diag([1, 1, 1.5, 1]))


def _origin(root: Path, case: str) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] = (0, 300, 0)
    _rewrite(label(root, case), _keep, moved)


def _direction(root: Path, case: str) -> None:
    _rewrite(label(root, case), _keep, AFFINE @ np.diag([-1, 1, 1, 1]))


def _values(root: Path, case: str) -> None:
    _rewrite(label(root, case), lambda data: np.where(data == 2, 7, data).astype(np.uint8))


def _float_label(root: Path, case: str) -> None:
    _rewrite(label(root, case), lambda data: data.astype(np.float32) * np.float32(0.75))


def _empty_label(root: Path, case: str) -> None:
    _rewrite(label(root, case), np.zeros_like)


def _nan(root: Path, case: str) -> None:
    def change(data: np.ndarray) -> np.ndarray:
        data = data.astype(np.float32)
        data[3, 4, 5] = np.nan
        return data

    _rewrite(image(root, case), change)


def _infinite(root: Path, case: str) -> None:
    def change(data: np.ndarray) -> np.ndarray:
        data = data.astype(np.float32)
        data[0, 0, 0] = -np.inf
        return data

    _rewrite(image(root, case, 1), change)


def _constant(root: Path, case: str) -> None:
    _rewrite(image(root, case), lambda data: np.full_like(data, 40))


def _truncated(root: Path, case: str) -> None:
    path = image(root, case)
    path.write_bytes(path.read_bytes()[:-200])


def _flipped_byte(root: Path, case: str) -> None:
    path = image(root, case)
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(bytes(data))


def _text(root: Path, case: str) -> None:
    image(root, case).write_text("patient list, not an image\n" * 40)


def _empty_file(root: Path, case: str) -> None:
    image(root, case, 1).write_bytes(b"")


def _duplicate(root: Path, case: str) -> None:
    """The case's images are those of the first case, stored as another type."""
    for channel in (0, 1):
        data = np.asanyarray(nib.load(image(root, "case_000", channel)).dataobj)
        write_nifti(image(root, case, channel), data.astype(np.float32), AFFINE)


def _duplicate_test(root: Path, case: str) -> None:
    for channel in (0, 1):
        target = root / "imagesTs" / f"test_copy_{channel:04d}.nii.gz"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(image(root, case, channel), target)


def _four_d(root: Path, case: str) -> None:
    _rewrite(image(root, case), lambda data: np.stack([data, data + 1], axis=-1))


def _label_four_d(root: Path, case: str) -> None:
    _rewrite(label(root, case), lambda data: np.stack([data == 1, data == 2], axis=-1).astype(np.uint8))


def _metres(root: Path, case: str) -> None:
    small = np.diag([-0.001, -0.001, 0.002, 1.0])
    for path in (image(root, case), image(root, case, 1), label(root, case)):
        _rewrite(path, _keep, small)


def _channel_shape(root: Path, case: str) -> None:
    _rewrite(image(root, case, 1), lambda data: data[:, :-2])


def _channel_grid(root: Path, case: str) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] = (0, 0, 50)
    _rewrite(image(root, case, 1), _keep, moved)


def _channel_duplicate(root: Path, case: str) -> None:
    shutil.copy(image(root, case), image(root, case, 1))


def _mixed_ending(root: Path, case: str) -> None:
    data = np.asanyarray(nib.load(image(root, case)).dataobj)
    write_nifti(root / "imagesTr" / f"{case}_more_0000.nii", data, AFFINE)


def _orphan(root: Path, case: str) -> None:
    (root / "imagesTr" / f"{case}_notes.txt").write_text("seen by the radiologist")


def _no_channel_number(root: Path, case: str) -> None:
    _rewrite_copy(image(root, case), root / "imagesTr" / f"{case}.nii.gz", seed=2)


def _case_clash(root: Path, case: str) -> None:
    other = case.upper()
    for channel in (0, 1):
        _rewrite_copy(image(root, case, channel), image(root, other, channel), seed=3 + channel)
    shutil.copy(label(root, case), label(root, other))


def _in_both(root: Path, case: str) -> None:
    (root / "imagesTs").mkdir(exist_ok=True)
    for channel in (0, 1):
        _rewrite_copy(image(root, case, channel), root / "imagesTs" / image(root, case, channel).name, seed=5 + channel)


def _qform_sform(root: Path, case: str) -> None:
    for path in (image(root, case), image(root, case, 1), label(root, case)):
        old = nib.load(path)
        other = old.affine.copy()
        other[:3, 3] = (5, 5, 5)
        old.set_qform(other, 1)
        nib.save(nib.Nifti1Image(np.asanyarray(old.dataobj), None, old.header), path)


def _zero_affine(root: Path, case: str) -> None:
    old = nib.load(image(root, case))
    header = old.header.copy()
    for row in ("srow_x", "srow_y", "srow_z"):
        header[row] = 0
    nib.save(nib.Nifti1Image(np.asanyarray(old.dataobj), None, header), image(root, case))


def _no_orientation(root: Path, case: str) -> None:
    for path in (image(root, case), image(root, case, 1), label(root, case)):
        old = nib.load(path)
        header = old.header.copy()
        header["qform_code"] = header["sform_code"] = 0
        nib.save(nib.Nifti1Image(np.asanyarray(old.dataobj), None, header), path)


def _swapped(root: Path, case: str) -> None:
    one, other = image(root, case), label(root, case)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def _to_test(root: Path, case: str) -> Path:
    """Make a test case of a training case; its label, for the fault."""
    for kind in ("images", "labels"):
        (root / f"{kind}Ts").mkdir(exist_ok=True)
        for path in (root / f"{kind}Tr").glob(f"{case}*"):
            path.rename(root / f"{kind}Ts" / path.name)
    return root / "labelsTs" / f"{case}.nii.gz"


def _test_shape(root: Path, case: str) -> None:
    _rewrite(_to_test(root, case), lambda data: data[:-1])


def _test_values(root: Path, case: str) -> None:
    _rewrite(_to_test(root, case), lambda data: np.where(data == 1, 9, data).astype(data.dtype))


def _test_truncated(root: Path, case: str) -> None:
    path = _to_test(root, case)
    path.write_bytes(path.read_bytes()[:-40])


def _test_label_alone(root: Path, case: str) -> None:
    _to_test(root, case)
    for path in (root / "imagesTs").glob(f"{case}_*"):
        path.unlink()


CASE_FAULTS: tuple[tuple[str, str, Callable[[Path, str], None]], ...] = (
    ("missing label", "label-missing", _label_missing),
    ("label without an image", "image-missing", _image_missing),
    ("missing channel", "channel-missing", _channel_missing),
    ("more channels than declared", "channel-extra", _channel_extra),
    ("label of another shape", "label-shape", _shape),
    ("label with swapped axes", "label-shape", _axes_swapped),
    ("2D label of a volume", "label-shape", _two_dimensional),
    ("label of another spacing", "label-spacing", _spacing),
    ("label shifted by 300 mm", "label-origin", _origin),
    ("label with a flipped axis", "label-direction", _direction),
    ("undeclared label value", "label-values", _values),
    ("label of fractions", "label-float", _float_label),
    ("empty label map", "label-empty", _empty_label),
    ("NaN in an image", "not-finite", _nan),
    ("Inf in an image", "not-finite", _infinite),
    ("constant image", "image-constant", _constant),
    ("truncated file", "file-corrupt", _truncated),
    ("flipped byte", "file-corrupt", _flipped_byte),
    ("text called .nii.gz", "file-format", _text),
    ("file of zero bytes", "file-empty", _empty_file),
    ("duplicate case", "case-duplicate", _duplicate),
    ("training case in the test set", "case-duplicate", _duplicate_test),
    ("4-D image", "image-4d", _four_d),
    ("4-D label", "label-4d", _label_four_d),
    ("metres for mm", "spacing-units", _metres),
    ("channels of different shapes", "channel-shape", _channel_shape),
    ("channels of different grids", "channel-grid", _channel_grid),
    ("channel copied from another", "channel-duplicate", _channel_duplicate),
    ("file of another ending", "ending-mixed", _mixed_ending),
    ("stray text file", "file-orphan", _orphan),
    ("image without a channel number", "file-name", _no_channel_number),
    ("names that differ in case only", "case-clash", _case_clash),
    ("case in training and test", "case-in-both", _in_both),
    ("qform and sform disagree", "qform-sform", _qform_sform),
    ("all-zero affine", "affine-bad", _zero_affine),
    ("no orientation", "no-orientation", _no_orientation),
    ("image and label swapped", "image-label-swapped", _swapped),
    ("test label of another shape", "label-shape", _test_shape),
    ("test label of undeclared values", "label-values", _test_values),
    ("test label that is truncated", "file-corrupt", _test_truncated),
    ("test label without an image", "image-missing", _test_label_alone),
)
DATASET_FAULTS = (
    "labels-gap",
    "class-absent",
    "num-training",
    "patients-unknown",
    "splits-patient",
    "splits-unknown-case",
    "patient-train-test",
    "json-key",
)


def seed_faults(root: Path, *, seed: int = 0) -> list[Expected]:
    """Write a dataset with every fault of this module and return what must be found."""
    sound = 4
    make_dataset(
        root, cases=sound + len(CASE_FAULTS), shape=SHAPE, channels=2, seed=seed, spacing_mm=(1, 1, 2), affine=AFFINE
    )
    expected: list[Expected] = []
    for position, (name, code, apply) in enumerate(CASE_FAULTS):
        case = f"case_{sound + position:03d}"
        apply(root, case)
        expected.append(Expected(fault=name, code=code, case=_named_case(code, name, case)))
    content = json.loads((root / "dataset.json").read_text())
    content["labels"]["cyst"] = 4
    content["numTraining"] = 9
    content["class_prompts"] = {"cyts": "a cyst"}
    content["dimensionality"] = 4
    content["patients"] = {"case_001": "anna", "case_002": "anna", "case_003": "berta", "nobody": "carla"}
    content["patients"]["test_copy"] = "berta"
    (root / "dataset.json").write_text(json.dumps(content))
    splits = [{"train": ["case_000", "case_001"], "val": ["case_002"]}, {"train": ["case_000"], "val": ["case_999"]}]
    (root / "splits_final.json").write_text(json.dumps(splits))
    return expected + [Expected(fault=code, code=code, case="") for code in DATASET_FAULTS]


def _named_case(code: str, name: str, case: str) -> str:
    """The case that the finding is filed under."""
    if code in {"ending-mixed", "file-orphan", "file-name"}:
        return ""
    if name == "duplicate case":
        return "case_000"
    return case.upper() if code == "case-clash" else case
