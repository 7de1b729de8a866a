"""Does nnU-Net's own integrity check accept what `medmoe convert` writes? Every 3D set of the real samples, one run.

    python benchmarks/nnunet_integrity.py --data ../shared/data --nnunet /path/to/venv/bin [--work DIR] [--json FILE]

Each set is converted by the command line, linked as DatasetXXX_Name without a change, checked by `medmoe check`, and
given to `nnUNetv2_extract_fingerprint --verify_dataset_integrity`. The two that come without labels of their own get
some: the CT series of DICOM files a mask of what is denser than 200 HU, laid beside it as a NIfTI.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.nnunet_linked import integrity_command, link_dataset, nnunet_environment  # noqa: E402
from medmoe_cli.core.imaging.read import read_image  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """A set of the samples: where it is, and how it is converted."""

    name: str
    source: Callable[[Path, Path], Path]
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One set's result: exit codes, and nnU-Net's last words where it refused."""

    name: str
    cases: int
    convert: int
    check: int
    nnunet: int
    said: str


def _folder(name: str) -> Callable[[Path, Path], Path]:
    return lambda data, work: data / name


def _dicom_ct(data: Path, work: Path) -> Path:
    source = work / "dicom"
    shutil.copytree(data / "dicom_ct", source / "ct")
    image = read_image(source / "ct")
    mask = nib.Nifti1Image((image.data[0] > 200).astype(np.uint8), image.geometry.affine)
    nib.save(mask, source / "ct_seg.nii.gz")
    return source


def _totalsegmentator(data: Path, work: Path) -> Path:
    source = work / "totalsegmentator"
    source.mkdir()
    for name in ("example_ct.nii.gz", "example_seg.nii.gz"):
        path = data / "totalsegmentator" / ("example_ct_sm.nii.gz" if name == "example_ct.nii.gz" else name)
        shutil.copyfile(path, source / name)
    return source


SETS = (
    RealSet(name="hippocampus", source=_folder("Task04_Hippocampus"), options=("--format", "msd")),
    RealSet(
        name="acdc-h5", source=_folder("acdc_h5"), options=("--format", "ssl4mis-h5", "--spacing", "1.5", "1.5", "10")
    ),
    RealSet(name="isles", source=_folder("isles2022"), options=("--format", "isles2022")),
    RealSet(name="dicom-ct", source=_dicom_ct, options=("--format", "dicom", "--label-names", "bone")),
    RealSet(
        name="totalsegmentator",
        source=_totalsegmentator,
        options=("--format", "folder", "--image-suffix", "_ct", "--label-suffix", "_seg", "--modality", "CT"),
    ),
)


def measure(one: RealSet, number: int, data: Path, work: Path, nnunet: Path) -> Row:
    """Convert, check, and let nnU-Net check."""
    workspace = work / "workspace"
    source = one.source(data, work)
    convert = _medmoe(workspace, "convert", str(source), "--name", one.name, *one.options)
    if convert.returncode not in {0, 6}:
        return Row(name=one.name, cases=0, convert=convert.returncode, check=-1, nnunet=-1, said=_end(convert.stderr))
    dataset = workspace / "datasets" / one.name
    check = _medmoe(workspace, "check", one.name)
    link_dataset(dataset, work / "raw", number)
    verified = subprocess.run(
        integrity_command(nnunet, number, 2), env=nnunet_environment(work / "raw", work), capture_output=True, text=True
    )
    told = verified.stdout + verified.stderr
    accepted = verified.returncode == 0 and "verify_dataset_integrity Done" in told
    return Row(
        name=one.name,
        cases=json.loads((dataset / "dataset.json").read_text())["numTraining"],
        convert=convert.returncode,
        check=check.returncode,
        nnunet=0 if accepted else verified.returncode or 1,
        said="" if accepted else _end(told),
    )


def _medmoe(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medmoe_cli", *arguments, "--workspace", str(workspace)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _end(text: str) -> str:
    return " ".join(text.split())[-300:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a set was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nnunet", type=Path, required=True, help="folder of nnU-Net's commands")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    work = given.work or Path(tempfile.mkdtemp(prefix="medmoe-integrity-"))
    rows = []
    print(f"{'set':18} {'cases':>5} {'convert':>7} {'check':>5} {'nnU-Net':>8}")
    for number, one in enumerate(SETS, start=901):
        row = measure(one, number, given.data, work, given.nnunet)
        rows.append(row)
        verdict = "accepts" if row.nnunet == 0 else f"{row.nnunet}: {row.said}"
        print(f"{row.name:18} {row.cases:5} {row.convert:7} {row.check:5} {verdict:>8}", flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return int(any(row.nnunet for row in rows))


if __name__ == "__main__":
    sys.exit(main())
