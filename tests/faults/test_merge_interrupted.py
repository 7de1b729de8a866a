"""Merges that are killed or interrupted, in processes of their own: the old model is there, or the whole new one."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medmoe_cli.app import _terminated
from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import MedMoEError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.workflows.merging.options import MergeOptions
from medmoe_cli.core.workflows.model_files.shared_model import read_record, verify_files
from tests.tools.merging import merge, options, standard_workspace
from tests.tools.training import wait

POINTS = ("open", "mid-write", "pre-fsync", "pre-replace", "post-replace")


class Signals(Silent):
    """Sends its own process a signal when a task begins."""

    def __init__(self, task: str, number: int) -> None:
        super().__init__()
        self._task, self._number = task, number

    def start(self, task: str, total: int | None) -> None:
        if task.startswith(self._task):
            os.kill(os.getpid(), self._number)


def start(
    workspace: Workspace, wanted: MergeOptions, *, failpoint: str = "", reporter: Silent | None = None, note: Path
) -> Any:
    """Merge in a forked process; `note` gets its error."""

    def target() -> None:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        os.environ["MEDMOE_FAILPOINT"] = failpoint
        atomic._passes.clear()
        signal.signal(signal.SIGTERM, _terminated)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        code = 0
        try:
            merge(workspace, wanted, reporter)
        except MedMoEError as error:
            note.write_text(error.line())
            code = error.exit_code
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    return process


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".tmp-*")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return standard_workspace(tmp_path_factory.mktemp("killed"), experts=("lungs", "bones"))


@pytest.fixture(scope="module")
def before(workspace: Workspace) -> Path:
    """A merged model with one expert; its features are cached, so that later merges pass equal points."""
    return merge(workspace, options("lungs", output=workspace.root / "before" / "model")).folder


@dataclass(frozen=True)
class Grown:
    """The files of the model that adding the second expert makes, and how often each failpoint was passed."""

    files: dict[str, str]
    passes: Counter[str]


@pytest.fixture(scope="module")
def after(workspace: Workspace, before: Path) -> Grown:
    merge(workspace, options("bones", output=workspace.root / "warm"))  # its features are cached now
    folder = workspace.root / "after" / "model"
    shutil.copytree(before, folder)
    passes: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "failpoint", lambda name: passes.update([name]))
        merge(workspace, options("bones", into=str(folder)))
    return Grown(files=hashes(folder), passes=passes)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("back", [1, 4])
def test_a_kill_while_growing_leaves_the_old_model_or_the_new_one(
    workspace: Workspace, before: Path, after: Grown, tmp_path: Path, point: str, back: int
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(before, folder)
    assert after.passes[point] > back
    failpoint = f"{point}:{after.passes[point] - back}"
    wanted = options("bones", into=str(folder))
    assert wait(start(workspace, wanted, failpoint=failpoint, note=tmp_path / "note")) == 137
    record = read_record(folder)
    verify_files(folder, record, frozenset(record.entries))
    assert hashes(folder) in (hashes(before), after.files)
    atomic.sweep(tmp_path)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("failpoint", ["pre-replace:1", "pre-replace:9", "mid-write:2"])
def test_a_new_model_is_there_whole_or_not_at_all(
    workspace: Workspace, before: Path, tmp_path: Path, failpoint: str
) -> None:
    folder = tmp_path / "model"
    wanted = options("lungs", output=folder)
    assert wait(start(workspace, wanted, failpoint=failpoint, note=tmp_path / "note")) == 137
    assert not folder.exists()
    merge(workspace, wanted)
    assert hashes(folder) == hashes(before)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("task", "number", "code"),
    [
        ("training", signal.SIGTERM, 143),
        ("training", signal.SIGINT, 130),
        ("training", signal.SIGKILL, -signal.SIGKILL),
        ("scoring", signal.SIGTERM, 143),
        ("scoring", signal.SIGINT, 130),
        ("scoring", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_signals_end_a_merge_and_leave_the_model_as_it_was(
    workspace: Workspace, before: Path, tmp_path: Path, task: str, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(before, folder)
    wanted = replace(options("bones", into=str(folder)), steps=40)
    note = tmp_path / "note"
    assert wait(start(workspace, wanted, reporter=Signals(task, number), note=note)) == code
    assert hashes(folder) == hashes(before)
    if number == signal.SIGKILL:
        atomic.sweep(tmp_path)
    elif task == "training":
        assert "nothing was written" in note.read_text()
    assert not leftovers(tmp_path)
    assert json.loads((folder / "model.json").read_text())["model"]["role"] == "merged"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems rename twice")
def test_an_existing_folder_is_exchanged_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(one: object, other: object) -> None:
        raise AssertionError("renamed in two steps: a kill in between would leave no model")

    atomic.replace_dir(tmp_path / "model", lambda folder: None)
    monkeypatch.setattr(os, "replace", refuse)
    atomic.replace_dir(tmp_path / "model", lambda folder: (folder / "new").touch())
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(tmp_path / "model") == ["new"]


def test_a_model_that_someone_else_changed_meanwhile_is_not_overwritten(
    workspace: Workspace, before: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(before, folder)

    class Meddles(Silent):
        def start(self, task: str, total: int | None) -> None:
            if task.startswith("scoring"):
                path = folder / "model.json"
                path.write_text(path.read_text().replace('"medmoe":', '"medmoe" :'))

    with pytest.raises(MedMoEError, match="has changed") as caught:
        merge(workspace, options("bones", into=str(folder)), Meddles())
    assert caught.value.exit_code == 4
    assert not (folder / "experts" / "bones.safetensors").exists()
    assert not leftovers(tmp_path)
