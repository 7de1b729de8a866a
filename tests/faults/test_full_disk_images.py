"""A full disk while a mask or an image is written: one error, the previous file intact, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.imaging.write import write_image, write_labels, write_volume

path = Path(sys.argv[1])
flat = path.suffix in (".png", ".tif")
shape = (200, 150, 1) if flat else (40, 40, 30)
rng = np.random.default_rng(0)
image = Image(
    data=rng.integers(0, 256, (1, *shape)).astype(np.uint8),
    geometry=Geometry.plain(shape),
    header=Header(format="dicom", path=Path("scan")),
)
labels = rng.integers(0, 256, shape).astype(np.uint8)
write_labels(path, labels, image)
before = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
jobs = [lambda: write_labels(path, 255 - labels, image), lambda: write_image(path, image)]
if not flat:
    jobs.append(lambda: write_volume(path, rng.random(shape), image))
for job in jobs:
    try:
        job()
    except ResourceError as error:
        assert "no space left" in error.line(), error.line()
        assert error.exit_code == 5
    else:
        sys.exit("it was written")
assert path.read_bytes() == before
print(sorted(file.name for file in path.parent.iterdir()))
"""


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
def test_full_disk(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"mask{ending}"
    done = subprocess.run(
        [sys.executable, "-c", _WRITE, str(path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"['{path.name}']"
