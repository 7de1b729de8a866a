"""The writer that all converters share: whole or absent, never over something else, in any number of workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError, ResourceError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.class_words import class_words
from medmoe_cli.core.data.converters.registry import FORMATS, recognise
from medmoe_cli.core.data.converters.source import renumber
from medmoe_cli.core.data.workers import each, worker_count
from tests.tools.converting import convert, names
from tests.tools.datasets import make_dataset
from tests.tools.sources import make_imed361m, make_msd, make_nnunet_v1, make_pictures, make_ssl4mis
from tests.tools.sources_sam_med3d import make_collection

ROOT = Path(__file__).resolve().parents[3]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def test_an_existing_dataset_is_kept_without_overwrite(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task")
    root = convert(tmp_path, source, "msd").written.root
    before = tree(root)
    with pytest.raises(ConfigError, match="--overwrite"):
        convert(tmp_path, source, "msd", limit=1)
    assert tree(root) == before
    convert(tmp_path, source, "msd", limit=1, overwrite=True)
    assert names(root / "labelsTr") == ["prostate_00.nii.gz"]


def test_a_failed_conversion_leaves_the_old_dataset_and_nothing_else(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task")
    root = convert(tmp_path, source, "msd").written.root
    before = tree(root)
    for path in (source / "imagesTr").glob("*.nii.gz"):
        path.write_bytes(path.read_bytes()[:80])
    for path in (source / "imagesTs").glob("*.nii.gz"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no case could be converted"):
        convert(tmp_path, source, "msd", overwrite=True)
    assert tree(root) == before
    assert names(root.parent) == ["ds"]


@pytest.mark.parametrize(("point", "finished"), [("open:3", 0), ("pre-replace:5", 1), ("pre-fsync:15", 3)])
def test_a_killed_conversion_leaves_no_dataset_and_is_taken_up(tmp_path: Path, point: str, finished: int) -> None:
    source = make_msd(tmp_path / "task")
    command = [
        sys.executable,
        "-m",
        "medmoe_cli",
        "convert",
        source,
        "--format",
        "msd",
        "--name",
        "ds",
        "--workers",
        "1",
    ]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "MEDMOE_FAILPOINT": point, "MEDMOE_HOME": str(tmp_path / "ws"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 137, done.stderr
    folder = tmp_path / "ws" / "datasets"
    left = names(folder)
    assert all(name.startswith((".tmp-", ".converting-")) for name in left)
    assert left
    written = convert(tmp_path, source, "msd").written
    assert names(folder) == ["ds"]
    assert (written.training, written.test, written.reused) == (3, 1, finished)
    straight = convert(tmp_path / "again", source, "msd").written.root
    assert {name: data[10:] for name, data in tree(written.root).items()} == {
        name: data[10:] for name, data in tree(straight).items()
    }


def test_workers_change_nothing(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task", cases=4)
    one = tree(convert(tmp_path, source, "msd", name="one").written.root)
    two = tree(convert(tmp_path, source, "msd", name="two", workers=2).written.root)
    one.pop("dataset.json")  # holds the name
    two.pop("dataset.json")
    assert list(one) == list(two)
    for name, data in one.items():
        # gzip stores the time of writing; the rest is equal.
        assert data[10:] == two[name][10:], name


def _kill_on_three(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), 9)
    return item * 2


def test_a_dead_worker_names_the_cases_it_may_have_been(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        list(each(_kill_on_three, list(range(6)), workers=2, name=lambda item: f"case_{item}"))
    assert caught.value.exit_code == 5
    line = caught.value.line()
    assert "case_3" in line
    assert "killed (often out of memory)" in line
    assert "--workers 1" in line


def test_worker_counts() -> None:
    assert worker_count(None, 3) == 1
    assert worker_count(6, 3) == 3
    assert worker_count(1, 1000) == 1
    assert 1 <= worker_count(None, 1000) <= 8


def test_limit_is_said(tmp_path: Path) -> None:
    written = convert(tmp_path, make_msd(tmp_path / "task", cases=4), "msd", limit=2).written
    assert (written.training, written.test) == (2, 0)
    assert "--limit left 3 cases out" in written.notes


def test_each_format_is_recognised(tmp_path: Path) -> None:
    made = {
        "msd": make_msd(tmp_path / "a"),
        "nnunet": make_nnunet_v1(tmp_path / "b"),
        "imed361m": make_imed361m(tmp_path / "d"),
        "ssl4mis-h5": make_ssl4mis(tmp_path / "e"),
        "sam-med3d": make_collection(tmp_path / "g"),
        "folder": make_pictures(tmp_path / "f"),
    }
    assert set(made) <= set(FORMATS)
    assert {name: recognise(path) for name, path in made.items()} == {name: name for name in made}
    assert recognise(make_dataset(tmp_path / "v2")) == "nnunet"
    (tmp_path / "none").mkdir()
    assert recognise(tmp_path / "none") is None
    for name, path in made.items():
        for other in made:
            if other == name or (other == "folder" and name in {"msd", "nnunet"}):
                continue
            with pytest.raises(DataError, match=f"looks like {name}"):
                convert(tmp_path, path, other)


def test_wrong_sources(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_bytes(b"PK")
    for source, message in (("empty", "empty folder"), ("file.zip", "not a readable archive"), ("none", "not found")):
        with pytest.raises(DataError, match=message):
            convert(tmp_path, tmp_path / source, "msd")
    make_msd(tmp_path / "all" / "Task05_Prostate")
    (tmp_path / "all" / "Task06_Lung").mkdir()
    with pytest.raises(DataError, match="sub-folder Task05_Prostate is one"):
        convert(tmp_path, tmp_path / "all", "msd")
    broken = make_msd(tmp_path / "broken")
    (broken / "dataset.json").write_text('{"training": [')
    with pytest.raises(DataError, match="line 1"):
        convert(tmp_path, broken, "msd")


def test_names_formats_and_options_are_checked(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task")
    with pytest.raises(ConfigError, match="bad dataset name"):
        convert(tmp_path, source, "msd", name="../up")
    with pytest.raises(ConfigError, match="did you mean 'imed361m'"):
        convert(tmp_path, source, "imed361")
    with pytest.raises(ConfigError, match="looks like msd"):
        convert(tmp_path, source, None)
    with pytest.raises(ConfigError, match="--spacing does nothing for --format msd"):
        convert(tmp_path, source, "msd", spacing_mm=(1, 1, 1))
    root = convert(tmp_path, source, "msd").written.root
    with pytest.raises(ConfigError, match="the source is the dataset itself"):
        convert(tmp_path, root, "nnunet", overwrite=True)


def test_cases_of_one_name(tmp_path: Path) -> None:
    source = make_msd(tmp_path / "task")
    (source / "imagesTs" / "prostate_90.nii.gz").rename(source / "imagesTs" / "prostate_00.nii.gz")
    path = source / "dataset.json"
    path.write_text(path.read_text().replace("prostate_90", "prostate_00"))
    with pytest.raises(DataError, match="cases of one name: prostate_00"):
        convert(tmp_path, source, "msd")


def test_a_reporter_hears_every_case(tmp_path: Path) -> None:
    class Listening(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[tuple[str, str]] = []

        def advance(self, item: str, *, status: str = "ok", detail: str = "") -> None:
            self.heard.append((item, status))

    source = make_msd(tmp_path / "task", channels=1)
    (source / "labelsTr" / "prostate_01.nii.gz").write_bytes(b"text")
    reporter = Listening()
    convert(tmp_path, source, "msd", reporter=reporter)
    assert reporter.heard == [
        ("prostate_00", "ok"),
        ("prostate_01", "failed"),
        ("prostate_02", "ok"),
        ("prostate_90", "ok"),
    ]


def test_renumbering() -> None:
    assert renumber({"b": 7, "a": 2}) == ({"a": 1, "b": 2}, {2: 1, 7: 2})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kidney_right", "right kidney"),
        ("adrenal_gland_left", "left adrenal gland"),
        ("Anterior", "anterior"),
        ("rib_left_1", "left rib 1"),
        ("vertebrae_L5", "vertebrae L5"),
        ("LV", "LV"),
        ("GallBladder", "gall bladder"),
        ("left-right shunt", "left right shunt"),
        ("liver", "liver"),
    ],
)
def test_class_words(name: str, words: str) -> None:
    assert class_words(name) == words
