"""Datasets of a medmoe workspace under the names that nnU-Net takes, and its commands run on them."""

from __future__ import annotations

import os
from pathlib import Path


def link_dataset(dataset: Path, raw: Path, number: int) -> Path:
    """The dataset as DatasetXXX_Name in nnU-Net's raw folder, unchanged: a link to it."""
    raw.mkdir(parents=True, exist_ok=True)
    link = raw / f"Dataset{number:03d}_{dataset.name.replace('-', '_')}"
    link.symlink_to(dataset.resolve(), target_is_directory=True)
    return link


def nnunet_environment(raw: Path, work: Path) -> dict[str, str]:
    """The environment of nnU-Net's commands: its three folders, one thread per process."""
    folders = {"nnUNet_raw": raw, "nnUNet_preprocessed": work / "preprocessed", "nnUNet_results": work / "results"}
    return {**os.environ, **{key: str(path) for key, path in folders.items()}, "OMP_NUM_THREADS": "1"}


def integrity_command(nnunet: Path, number: int, workers: int) -> list[str]:
    """nnU-Net's check of a dataset and its fingerprint, which come in one command."""
    program = str(nnunet / "nnUNetv2_extract_fingerprint")
    return [program, "-d", str(number), "-np", str(workers), "--verify_dataset_integrity", "--clean"]
