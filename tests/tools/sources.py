"""Small sources laid out exactly like the public releases that `convert` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import scipy.sparse
from PIL import Image as Picture

from tests.tools.datasets import make_dataset, phantom, write_nifti, write_picture

AFFINE = np.array([[-1.2, 0.1, 0, 30], [0.1, 1.2, 0, -20], [0, 0, 3, 7], [0, 0, 0, 1.0]])


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make_msd(root: Path, *, cases: int = 3, channels: int = 2, float_labels: bool = True) -> Path:
    """A Decathlon task: 4-D images, float labels, AppleDouble junk, test images without labels."""
    training = []
    for number in range(cases):
        images, label = phantom((10, 9, 6), channels=channels, seed=number)
        data = np.stack(images, axis=-1).astype(np.int16) if channels > 1 else images[0].astype(np.int16)
        name = f"prostate_{number:02d}.nii.gz"
        write_nifti(root / "imagesTr" / name, data, AFFINE)
        write_nifti(root / "labelsTr" / name, label.astype(np.float32) if float_labels else label, AFFINE)
        (root / "imagesTr" / f"._{name}").write_bytes(b"\0\5\26\7AppleDouble")
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    images, _ = phantom((10, 9, 6), channels=channels, seed=99)
    data = np.stack(images, axis=-1).astype(np.int16) if channels > 1 else images[0].astype(np.int16)
    write_nifti(root / "imagesTs" / "prostate_90.nii.gz", data, AFFINE)
    names = ["T2", "ADC", "DWI"][:channels]
    write_json(
        root / "dataset.json",
        {
            "name": "Prostate",
            "description": "Prostate zones",
            "licence": "CC-BY-SA 4.0",
            "relase": "1.0 04/05/2018",
            "tensorImageSize": "4D",
            "modality": {str(index): name for index, name in enumerate(names)},
            "labels": {"0": "background", "1": "PZ", "2": "TZ"},
            "numTraining": cases,
            "numTest": 1,
            "training": training,
            "test": ["./imagesTs/prostate_90.nii.gz"],
        },
    )
    return root


def make_nnunet_v1(root: Path, *, cases: int = 2) -> Path:
    """An nnU-Net v1 task: numbered files, labels keyed '00', '01'."""
    make_dataset(root, cases=cases, channels=2, tests=1, shape=(10, 9, 6))
    ids = [f"case_{number:03d}" for number in range(cases)]
    write_json(
        root / "dataset.json",
        {
            "name": "Task",
            "modality": {"0": "CT", "1": "PET"},
            "labels": {"00": "background", "01": "organ", "02": "lesion"},
            "training": [{"image": f"./imagesTr/{i}.nii.gz", "label": f"./labelsTr/{i}.nii.gz"} for i in ids],
            "test": [f"./imagesTs/case_{cases:03d}.nii.gz"],
        },
    )
    return root


def make_imed361m(
    root: Path, *, patients: Sequence[str] = ("ABD_001", "ABD_002"), slices: int = 2, overlap: bool = False
) -> Path:
    """An IMed-361M dataset: RGB pictures that are grey, CSR masks whose shape is in their name."""
    training, test = [], []
    names = {"0": "background", "1": "spleen", "2": "kidney_right", "3": "liver"}
    for patient_number, patient in enumerate(patients):
        for number in range(slices):
            case = f"{patient}_{10 * (number + 1)}"
            images, label = phantom((40, 32, 1), classes=3, seed=patient_number * 50 + number)
            grey = np.clip(images[0][:, :, 0], 0, 255).astype(np.uint8)
            write_picture(root / "image" / f"{case}.png", np.stack([grey] * 3, axis=-1))
            rows_first = label[:, :, 0].T
            masks = [rows_first == value for value in (1, 2, 3)]
            if overlap:
                masks[2] = masks[2] | masks[0]
            flat = scipy.sparse.csr_matrix(np.stack([mask.ravel() for mask in masks]).astype(np.int32))
            name = f"x___{case}.(3, 32, 40, 1).npz"
            (root / "label").mkdir(exist_ok=True)
            scipy.sparse.save_npz(root / "label" / name, flat)
            (test if patient_number == 1 and number == 0 else training).append(
                {"image": f"image/{case}.png", "label": f"label/{name}", "imask": f"imask/x___{case}.npy"}
            )
    write_picture(root / "image" / "ABD_008_10.png", np.full((40, 32, 3), 50, np.uint8))
    write_json(
        root / "dataset.json",
        {
            "name": "BTCV",
            "description": "ct_BTCV",
            "dimension": "2D",
            "modality": {"0": "ct"},
            "labels": names,
            "numTraining": len(training),
            "training": training,
            "test": test,
        },
    )
    return root


def make_ssl4mis(root: Path, *, slices: bool = False) -> Path:
    """ACDC as SSL4MIS packs it: [slice, H, W], image in [0, 1], no spacing."""
    for patient in (1, 2):
        for frame in (1, 2):
            images, label = phantom((11, 9, 4), classes=3, seed=10 * patient + frame)
            image_ZYX = (images[0] / 255).astype(np.float32).transpose(2, 1, 0)
            label_ZYX = label.transpose(2, 1, 0)
            name = f"patient{patient:03d}_frame{frame:02d}"
            if slices:
                for number in range(4):
                    _h5(root / "slices" / f"{name}_slice_{number + 1}.h5", image_ZYX[number], label_ZYX[number])
            else:
                _h5(root / f"{name}.h5", image_ZYX, label_ZYX)
    return root


def _h5(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = image, label


def make_pictures(root: Path, *, cases: int = 3, soft: bool = False, colour: bool = False) -> Path:
    """Pictures in images/, 0/255 masks with '_mask' in masks/; soft ones have grey edges as resized copies do."""
    for number in range(cases):
        images, label = phantom((48, 40, 1), classes=1, seed=number)
        grey = np.clip(images[0][:, :, 0], 0, 255).astype(np.uint8)
        picture = np.stack([grey, 255 - grey, grey // 2], axis=-1) if colour else grey
        write_picture(root / "images" / f"scan_{number}.png", picture)
        mask = np.where(label[:, :, 0] > 0, 255, 0).astype(np.uint8)
        if soft:
            big = Picture.fromarray(mask).resize((137, 111), Picture.Resampling.BICUBIC)
            mask = np.asarray(big.resize(mask.shape[::-1], Picture.Resampling.BILINEAR))
        write_picture(root / "masks" / f"scan_{number}_mask.png", mask)
    return root


def nifti_array(path: Path) -> np.ndarray:
    """The voxels of a NIfTI, by nibabel."""
    return np.asanyarray(nib.load(path).dataobj)


def picture_array(path: Path) -> np.ndarray:
    """The pixels of a picture, rows first."""
    return np.asarray(Picture.open(path))
