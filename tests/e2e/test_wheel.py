"""The wheel carries its presets: built, installed aside, and asked from another folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from medmoe_cli.core.config.presets import preset_names
from tests.tools.cli import ROOT


def test_an_installed_wheel_lists_the_presets(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)], check=True, timeout=240
    )
    (wheel,) = tmp_path.glob("medmoe-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "presets/"))]
    assert wheel.stat().st_size < 5_000_000
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True, timeout=240
    )
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import medmoe_cli; from medmoe_cli.core.config.presets import preset_names, presets_folder\n"
        "print(medmoe_cli.__file__); print(presets_folder()); print(*preset_names())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    package, folder, listed = done.stdout.splitlines()
    assert package.startswith(str(site))
    assert folder == str(site / "medmoe_cli" / "presets")
    assert listed.split() == preset_names()
    assert len(preset_names()) >= 3
