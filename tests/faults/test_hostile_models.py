"""`models import` of what was made to harm: refused with one line, nothing outside the workspace, nothing in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.workflows.model_files.export_model import export_model
from tests.tools.cli import Ran, assert_one_line_error, medmoe_here
from tests.tools.hostile_models import files_of, hostile_archives, hostile_folders, zipped
from tests.tools.models import untrained_model


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as export writes it."""
    root = tmp_path_factory.mktemp("good")
    untrained_model(root / "raw", labels={"a": 1, "b": 2})
    workspace = Workspace(root=root, origin="test")
    return export_model(workspace=workspace, model=str(root / "raw"), output=root / "good", reporter=Silent()).path


def import_into(workspace: Path, source: Path, *options: str) -> Ran:
    return medmoe_here("--workspace", workspace, "models", "import", source, "--name", "m", *options)


def everything(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Every file and folder below, with size, time of change and number on disk."""
    found = {path: path.lstat() for path in sorted(folder.rglob("*"))}
    return {
        path: (facts.st_size if path.is_file() else 0, facts.st_mtime_ns if path.is_file() else 0, facts.st_ino)
        for path, facts in found.items()
    }


def refuse_all(good: Path, tmp_path: Path, kind: str) -> int:
    inside, workspace, canary = tmp_path / "in", tmp_path / "deep" / "ws", tmp_path / "canary"
    inside.mkdir()
    assert import_into(workspace, good).code == 0
    made = hostile_archives(inside, files_of(good), canary) if kind == "zip" else hostile_folders(inside, good, canary)
    bundles = list(made)
    if kind == "folder":
        canary.write_text("untouched")
    before = everything(tmp_path)
    assert_one_line_error(import_into(workspace, bundles[0][1]), 2, "exists")
    for what, path in bundles:
        ran = import_into(workspace, path, "--overwrite")
        assert ran.code == 4, (what, ran.code, ran.err[-600:])
        assert_one_line_error(ran, 4, "fix:")
        assert len(ran.error_lines[0]) < 800, what
    # Not a byte changed anywhere: not outside, not the model that was there, no half of a new one.
    assert everything(tmp_path) == before
    return len(bundles)


def test_every_hostile_archive_is_refused_and_nothing_is_touched(good: Path, tmp_path: Path) -> None:
    assert refuse_all(good, tmp_path, "zip") >= 60
    assert not (tmp_path / "canary").exists()


def test_every_hostile_folder_is_refused_and_nothing_is_touched(good: Path, tmp_path: Path) -> None:
    assert refuse_all(good, tmp_path, "folder") >= 7


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", ".hidden", "a\0b", "x" * 200])
def test_a_name_is_no_path(good: Path, tmp_path: Path, name: str) -> None:
    ran = medmoe_here("--workspace", tmp_path / "ws", "models", "import", good, f"--name={name}")
    if name:
        assert_one_line_error(ran, 2, "cannot be a model's name")
        assert not (tmp_path / "ws").exists()
    else:
        assert ran.code == 0  # no name: the folder's own


def test_flipped_bytes_and_cut_ends_are_refused(good: Path, tmp_path: Path) -> None:
    """One byte changed anywhere in the archive, or any part of its end missing."""
    whole = zipped(tmp_path / "whole.zip", files_of(good)).read_bytes()
    workspace = tmp_path / "ws"
    start = whole.index(files_of(good)["model.safetensors"])
    length = len(files_of(good)["model.safetensors"])
    # Beside the weights the archive is small: there every place is as likely as inside.
    places = [start + length * part // 24 for part in range(24)]
    places += [
        at for at in range(0, len(whole), max(1, (len(whole) - length) // 24)) if not start <= at < start + length
    ][:40]
    harmless = 0
    for number, at in enumerate(places):
        data = bytearray(whole)
        data[at] ^= 0x10
        path = tmp_path / f"flip{number}.zip"
        path.write_bytes(bytes(data))
        ran = import_into(workspace / str(number), path)
        assert "Traceback" not in ran.err
        if ran.code == 0:
            # A time stamp, or a field that zip keeps twice: what was imported is the model, byte for byte.
            kept = workspace / str(number) / "models" / "m"
            found = {name: data for name, data in files_of(kept).items() if name != "run.json"}
            assert found == files_of(good), at
            harmless += 1
        else:
            assert ran.code == 4, (at, ran.err)
        path.unlink()
    assert harmless < len(places) // 3
    for number, share in enumerate((0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)):
        path = tmp_path / f"cut{number}.zip"
        path.write_bytes(whole[: int(len(whole) * share)])
        assert import_into(workspace / f"cut{number}", path).code == 4
