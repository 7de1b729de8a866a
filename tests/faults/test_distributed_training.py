from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medmoe_cli.core.engine.checkpoint import Checkpoints, read_snapshot
from tests.tools.cli import ROOT


@pytest.mark.slow
def test_two_processes_train_one_model_and_one_of_them_writes(tmp_path: Path) -> None:
    answers = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "tests.tools.train_distributed", str(folder)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        first, second = ((folder / f"rank-{rank}.txt").read_text() for rank in (0, 1))
        assert first == second
        # 9 samples, 2 processes, 2 per process: 3 steps an epoch, the first sample drawn twice.
        assert first.startswith("6 ")
        assert Checkpoints(folder / "checkpoints", keep=2).steps() == [3, 6]
        assert read_snapshot(folder / "checkpoints" / "step-6").state.finished
        answers.append(first)
    assert answers[0] == answers[1]
