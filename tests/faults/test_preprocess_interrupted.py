"""Preprocessing killed, starved of disk or robbed of a worker: finished cases stay, the next start takes them up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.cli import ROOT
from tests.tools.datasets import make_dataset

_HEAD = """
import os, resource, signal, sys
from pathlib import Path
from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data import preprocess as cases
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.workflows.plan import ensure_plan
from medmoe_cli.core.workflows.preprocess import ensure_preprocessed

workspace = Workspace(root=Path(sys.argv[1]), origin="test")
workers = int(sys.argv[2])
planned = ensure_plan(
    workspace=workspace,
    dataset=open_dataset(workspace.dataset("ds")),
    method="segmote",
    preset="test",
    overrides=PlanConfig(input_size=64),
    workers=1,
    reporter=Silent(),
)
folder = cases.store_folder(planned.folder, planned.plan)
"""
_RUN = """
ready = ensure_preprocessed(planned, workers=workers, reporter=Silent())
print(ready.num_reused, len(ready.records))
"""
# Dies before the third case's record is there: its array is, and does not count.
_KILLED = """
from medmoe_cli.core.data.store import Store
whole = Store.write
seen = []
def dying(self, writing):
    seen.append(writing.case)
    if len(seen) == 3:
        os.environ["MEDMOE_FAILPOINT"] = sys.argv[3]
    return whole(self, writing)
Store.write = dying
"""
_FULL = """
from medmoe_cli.core.data.store import Store
whole = Store.write
seen = []
def starving(self, writing):
    seen.append(writing.case)
    if len(seen) == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
    return whole(self, writing)
Store.write = starving
try:
    ensure_preprocessed(planned, workers=1, reporter=Silent())
except ResourceError as error:
    assert error.exit_code == 5
    sys.exit(error.line())
"""
_DEAD_WORKER = """
from medmoe_cli.core.data.store import Store
def die(self, writing):
    os.kill(os.getpid(), signal.SIGKILL)
def murdered(job):
    if job.case.id == "case_002":
        Store.write = die
    return whole(job)
whole = cases.preprocess_case
cases.preprocess_case = murdered
try:
    ensure_preprocessed(planned, workers=workers, reporter=Silent())
except ResourceError as error:
    assert error.exit_code == 5
    sys.exit(error.line())
"""


def python(code: str, workspace: Path, *arguments: str, workers: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _HEAD + code, str(workspace), str(workers), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=200,
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    make_dataset(tmp_path / "datasets" / "ds", cases=5)
    return tmp_path


def store_of(workspace: Path) -> Path:
    (record, *_) = (workspace / "preprocessed" / "ds").glob("*/*.case.json")
    return record.parent


def assert_whole(workspace: Path) -> None:
    """Five cases and nothing else that a writer could have left."""
    names = sorted(path.name for path in store_of(workspace).iterdir() if path.name != ".lock")
    assert names == sorted(f"case_{k:03d}.{ending}" for k in range(5) for ending in ("b2nd", "case.json"))


@pytest.mark.parametrize("point", ["mid-write", "post-replace"])
def test_killed_in_the_third_case(workspace: Path, point: str) -> None:
    killed = python(_KILLED + _RUN, workspace, point)
    assert killed.returncode == 137, killed.stderr
    assert len(list(store_of(workspace).glob("*.case.json"))) == 2
    resumed = python(_RUN, workspace)
    assert resumed.stdout.split() == ["2", "5"], resumed.stderr
    assert_whole(workspace)


def test_full_disk_in_the_third_case(workspace: Path) -> None:
    full = python(_FULL, workspace)
    assert full.returncode == 1
    assert "no space left" in full.stderr.splitlines()[-1]
    assert not list(store_of(workspace).glob(".tmp-*"))
    assert python(_RUN, workspace).stdout.split() == ["2", "5"]
    assert_whole(workspace)


def test_killed_worker_names_its_case(workspace: Path) -> None:
    dead = python(_DEAD_WORKER, workspace, workers=2)
    last = dead.stderr.strip().splitlines()[-1]
    assert dead.returncode == 1, dead.stderr
    assert "a worker process died" in last
    assert "case_002" in last
    assert "killed (often out of memory)" in last
    assert "--workers 1" in last
    resumed = python(_RUN, workspace)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.split()[1] == "5"
    assert_whole(workspace)


def test_the_same_data_from_two_processes_at_once(workspace: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _HEAD + _RUN, str(workspace), "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split()[1] == "5"
    assert_whole(workspace)
    plan = json.loads((workspace / "preprocessed" / "ds" / "plans" / "test.json").read_text())
    assert plan["input_size"] == 64
