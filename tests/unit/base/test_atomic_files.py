from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.core.base.lock import exclusive
from tests.tools.cli import ROOT


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = atomic.write_text(tmp_path / "a.json", "old")

    def broken(temporary: Path) -> None:
        temporary.write_text("half")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        atomic.replace_file(target, broken)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_verify_runs_before_the_rename(tmp_path: Path) -> None:
    target = atomic.write_text(tmp_path / "a", "old")

    def refuse(temporary: Path) -> None:
        assert temporary.read_text() == "new"
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        atomic.replace_file(target, lambda temporary: temporary.write_text("new") and None, verify=refuse)
    assert target.read_text() == "old"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    atomic.replace_dir(target, lambda temporary: (temporary / "one").write_text("1") and None)
    atomic.replace_dir(target, lambda temporary: (temporary / "two").write_text("2") and None)
    assert sorted(os.listdir(target)) == ["two"]
    assert os.listdir(tmp_path) == ["folder"]


def test_files_honour_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        target = atomic.write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("point", ["open", "mid-write", "pre-fsync", "pre-replace", "post-replace"])
def test_a_kill_leaves_the_old_or_the_new_file(tmp_path: Path, point: str) -> None:
    target = atomic.write_text(tmp_path / "a", "old" * 1000)
    code = (
        "from pathlib import Path; from medmoe_cli.core.base import atomic\n"
        f"atomic.write_text(Path({str(target)!r}), 'new' * 1000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), "MEDMOE_FAILPOINT": point}
    )
    assert done.returncode == 137
    assert target.read_text() in ({"new" * 1000} if point == "post-replace" else {"old" * 1000})
    atomic.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_a_resource_error_and_spares_the_old_file(tmp_path: Path) -> None:
    target = atomic.write_text(tmp_path / "a", "old")
    code = (
        "import resource, signal; from pathlib import Path; from medmoe_cli.core.base import atomic, errors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try: atomic.write_text(Path({str(target)!r}), 'x' * 100000)\n"
        "except errors.ResourceError as error: print(error.line()); raise SystemExit(error.exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 5, done.stderr
    assert "no space left" in done.stdout
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_sweep_spares_the_files_of_living_processes(tmp_path: Path) -> None:
    mine = tmp_path / f".tmp-{os.getpid()}-abc-x"
    mine.write_text("")
    (tmp_path / ".tmp-999999999-abc-y").write_text("")
    assert atomic.sweep(tmp_path) == 1
    assert mine.exists()


def test_two_writers_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(ResourceError, match="another medmoe is at work"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass
