"""Trainings that are killed, interrupted, starved of disk or robbed of a worker, in processes of their own."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.engine.checkpoint import Checkpoints
from tests.tools.tiny_segmenter import DECODER_ONLY, DiscSource
from tests.tools.training import Recipe, digest, lines, run, start, wait, when

# Ten milliseconds a sample leave time to aim.
SLOW = Recipe(train=DiscSource(10, slow_s=0.01), validation=DiscSource(4, seed=1, prefix="val", slow_s=0.01))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("straight")
    return digest(run(folder, SLOW)), lines(folder)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".tmp-*")]


def resumed_equals(folder: Path, straight: tuple[dict[str, str], list[dict[str, Any]]]) -> None:
    has_checkpoint = bool(Checkpoints(folder / "checkpoints", keep=2).steps())
    if not has_checkpoint:
        (folder / "log.jsonl").unlink(missing_ok=True)  # killed before the first checkpoint: a new run
    assert digest(run(folder, SLOW, resume=has_checkpoint)) == straight[0]
    assert lines(folder) == straight[1]
    assert not leftovers(folder)


# The second of its kind strikes in the middle of the run; a checkpoint writes four files and then its folder.
FAILPOINTS = (
    "open:7",
    "mid-write:3",
    "between-files:2",
    "pre-manifest:2",
    "pre-fsync:6",
    "pre-replace:10",
    "post-replace:9",
    "pre-prune",
    "mid-prune",
)


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_kill_while_saving_costs_nothing(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, Any]]], failpoint: str
) -> None:
    assert wait(start(tmp_path, SLOW, failpoint=failpoint)) == 137
    reporter = Silent()
    latest = Checkpoints(tmp_path / "checkpoints", keep=2).latest(reporter)
    assert not reporter.warnings  # a half-written checkpoint never has the name of one
    assert latest is not None
    resumed_equals(tmp_path, straight)


@pytest.mark.parametrize("num_lines", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_kill_at_any_time_costs_nothing(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, Any]]], num_lines: int, workers: int
) -> None:
    process = start(tmp_path, SLOW.having(workers=workers))
    log = tmp_path / "log.jsonl"
    when(lambda: log.exists() and log.read_bytes().count(b"\n") >= num_lines, process)
    os.kill(process.pid, signal.SIGKILL)
    assert wait(process) == -signal.SIGKILL
    resumed_equals(tmp_path, straight)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_saves_and_the_resumed_run_is_the_same(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, Any]]], number: int, code: int, workers: int
) -> None:
    process = start(tmp_path, SLOW.having(workers=workers))
    log = tmp_path / "log.jsonl"
    when(lambda: log.exists() and log.stat().st_size > 0, process)
    os.kill(process.pid, number)
    assert wait(process) == code
    message = (tmp_path / "error.txt").read_text()
    assert "state saved at step" in message
    assert message.endswith("fix: medmoe train --resume")
    steps = Checkpoints(tmp_path / "checkpoints", keep=2).steps()
    assert steps
    resumed_equals(tmp_path, straight)


def test_a_signal_during_validation_saves_too(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, Any]]]
) -> None:
    validating = tmp_path / "validating"
    recipe = replace(SLOW, validation=DiscSource(4, seed=1, prefix="val", slow_s=0.3, touch=validating))
    process = start(tmp_path, recipe)
    when(validating.exists, process)
    os.kill(process.pid, signal.SIGTERM)
    assert wait(process) == 143
    resumed_equals(tmp_path, straight)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    loading = tmp_path / "loading"
    process = start(tmp_path, replace(SLOW, train=DiscSource(10, slow_s=1.5, touch=loading)))
    when(loading.exists, process)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.1)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    began = time.monotonic()
    assert wait(process) == 143
    assert time.monotonic() - began < 2
    assert not (tmp_path / "error.txt").exists()


def test_handlers_are_restored(tmp_path: Path) -> None:
    former = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(tmp_path, Recipe().having(epochs=1))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == former


def test_a_full_disk_leaves_the_former_checkpoint(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, Any]]]
) -> None:
    run(tmp_path, SLOW.having(epochs=1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints" / "step-3").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(2500, (tmp_path / "log.jsonl").stat().st_size + 4000), hard))
    try:
        with pytest.raises(ResourceError, match="no space left") as caught:
            run(tmp_path, SLOW, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 5
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints" / "step-3").iterdir()} == before
    assert Checkpoints(tmp_path / "checkpoints", keep=2).steps() == [3]
    assert not leftovers(tmp_path)
    assert digest(run(tmp_path, SLOW, resume=True)) == straight[0]


@pytest.mark.parametrize("where", ["train", "validation"])
def test_a_killed_worker_is_explained(tmp_path: Path, where: str) -> None:
    prefix = {"train": "case", "validation": "val"}[where]
    source = DiscSource(10, prefix=prefix, deadly=f"{prefix}_002:1")
    with pytest.raises(ResourceError, match="a loader worker was killed") as caught:
        run(tmp_path, replace(SLOW, **{where: source}).having(workers=2))
    assert caught.value.exit_code == 5
    assert f"{prefix}_002:1" in caught.value.why
    assert "out of memory" in caught.value.why
    assert "train.workers=1" in caught.value.fix


def test_a_signal_to_the_whole_group_finds_workers_that_go_on(
    tmp_path: Path, straight: tuple[dict[str, str], list[dict[str, Any]]]
) -> None:
    process = start(tmp_path, SLOW.having(workers=2))
    log = tmp_path / "log.jsonl"
    when(lambda: log.exists() and log.stat().st_size > 0, process)
    os.killpg(process.pid, signal.SIGTERM)
    assert wait(process) == 143
    resumed_equals(tmp_path, straight)


def test_a_kill_while_encoding_keeps_what_is_encoded(tmp_path: Path) -> None:
    recipe = Recipe(stages=(DECODER_ONLY,), features=tmp_path / "features")
    whole = run(tmp_path / "whole", replace(recipe, features=tmp_path / "others"))
    assert wait(start(tmp_path, recipe, failpoint="mid-write:1")) in {0, 137}
    (tmp_path / "again").mkdir()
    process = start(tmp_path / "again", recipe, failpoint="pre-replace:6")
    assert wait(process) == 137
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) > 0
    resumed = run(tmp_path / "third", recipe)
    assert digest(resumed) == digest(whole)
    assert not leftovers(tmp_path / "features")
