"""The parts of benchmarks/hippocampus_cpu.py whose numbers can be known beforehand."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hippocampus_cpu import Row, environment, loop_of, score, split_by_id, table
from benchmarks.measured import run_measured
from benchmarks.nnunet_budget import _of_process, learning_rate, link_raw
from medmoe_cli.core.base.errors import DataError
from tests.tools.datasets import write_nifti

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def _row(**changes: object) -> Row:
    values: dict[str, object] = {
        "method": "moe-sam",
        "budget_s": 500.0,
        "process_s": 500.0,
        "loop_wall_s": 250.0,
        "steps": 1000,
        "dice": {"mean": 0.81234, "Anterior": 0.82, "Posterior": 0.80468},
        "versions": {"medmoe": "0.1.0"},
    }
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def test_split_is_by_sorted_id_whatever_the_order() -> None:
    ordered = [f"hippocampus_{number:03d}" for number in range(1, 261, 2)]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert split_by_id(shuffled) == {"train": ordered[:100], "val": ordered[100:]}


@pytest.mark.parametrize("count", [0, 129, 131])
def test_other_data_is_refused(count: int) -> None:
    with pytest.raises(SystemExit, match="130 cases expected"):
        split_by_id([f"case_{number}" for number in range(count)])


def test_the_loop_is_read_from_the_last_epoch(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [
        {"kind": "step", "step": 10, "machine": {"steps_per_s": 3}},
        {"kind": "epoch", "step": 10, "machine": {"seconds": 4.5}},
        {"kind": "epoch", "step": 17, "machine": {"seconds": 8.25}},
        {"kind": "step", "step": 20, "machine": {"steps_per_s": 3}},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert loop_of(log) == (17, 8.25)
    log.write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(SystemExit, match="no finished epoch"):
        loop_of(log)


def test_the_table_says_who_used_what_and_who_used_too_much() -> None:
    text = table([_row(), _row(method="nnU-Net 2d", budget_s=521.0, process_s=530.0)], 515)
    header, ours, theirs = text.splitlines()[:3]
    assert header.split("  ")[0] == "method"
    assert {"Anterior", "Posterior"} <= set(header.split())
    assert ours.split()[1:8] == ["500", "500", "0.8123", "0.8200", "0.8047", "1000", "4.00"]
    assert "521 (over!)" in theirs
    assert "over" not in ours
    assert header.index("mean Dice") == ours.index("0.8123") == theirs.index("0.8123")


@given(spent=st.floats(0, 2000), later=st.floats(0, 2000), budget=st.floats(1, 1000))
def test_the_learning_rate_falls_to_nothing_with_the_budget(spent: float, later: float, budget: float) -> None:
    first, second = sorted([spent, later])
    assert 0.01 >= learning_rate(0.01, first, budget) >= learning_rate(0.01, second, budget) >= 0
    assert learning_rate(0.01, 0, budget) == 0.01
    assert learning_rate(0.01, budget, budget) == 0


def test_the_learning_rate_is_the_polynomial_one() -> None:
    # nnU-Net's epoch 250 of 1000
    assert learning_rate(0.01, 128.75, 515) == pytest.approx(0.01 * 0.75**0.9)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans are adopted on Linux")
def test_the_time_of_a_worker_left_behind_counts(tmp_path: Path) -> None:
    worker = [sys.executable, "-c", BURN.format(seconds=0.5)]
    leave = f"import subprocess\nsubprocess.Popen({worker!r}, start_new_session=True)\n"
    spent = run_measured([sys.executable, "-c", leave], log=tmp_path / "log.txt", env=dict(os.environ))
    assert spent.cpu_s >= 0.5


def test_a_failing_command_stops_with_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(SystemExit, match="no such thing"):
        run_measured(command, log=tmp_path / "log.txt", env=dict(os.environ))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_process_is_charged_what_the_system_says() -> None:
    start = time.process_time()
    while time.process_time() < start + 0.1:
        pass
    before, found, after = os.times()[:4], _of_process(os.getpid()), os.times()[:4]
    assert sum(before) - 0.05 <= found <= sum(after) + 0.05
    assert _of_process(2**22 + 1) == 0  # beyond the largest process number


def test_nnunet_gets_the_dataset_without_the_key_it_would_misread(tmp_path: Path) -> None:
    dataset, raw = tmp_path / "hippocampus", tmp_path / "raw" / "Dataset004_Hippocampus"
    for folder in ("imagesTr", "labelsTr"):
        (dataset / folder).mkdir(parents=True)
        (dataset / folder / "a.nii.gz").write_bytes(b"x")
    (dataset / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}, "modality": "MRI"}))
    link_raw(dataset, raw)
    link_raw(dataset, raw)  # a second time changes nothing
    assert json.loads((raw / "dataset.json").read_text()) == {"channel_names": {"0": "MRI"}}
    assert (raw / "imagesTr" / "a.nii.gz").read_bytes() == (raw / "labelsTr" / "a.nii.gz").read_bytes() == b"x"
    assert "modality" in json.loads((dataset / "dataset.json").read_text())


def test_the_environment_is_the_same_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "12")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = environment(2)
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "2"
    assert not {"nnUNet_n_proc_DA", "MEDMOE_HOME"} & found.keys()


def test_exactly_the_validation_cases_are_scored(tmp_path: Path) -> None:
    dataset, masks = tmp_path / "data", tmp_path / "masks"
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    (dataset / "labelsTr").mkdir(parents=True)
    (dataset / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"})
    )
    truth = np.zeros((6, 6, 4), np.uint8)
    truth[1:3, 1:5], truth[3:5, 1:5] = 1, 2
    half = truth.copy()
    half[1, 1:5] = 0  # half of the anterior part is missed: Dice 2/3
    for case in ("a", "b", "c"):
        write_nifti(dataset / "labelsTr" / f"{case}.nii.gz", truth, np.eye(4))
    for case in ("b", "c"):
        write_nifti(masks / f"{case}.nii.gz", half, np.eye(4))
    found = score(masks, dataset, ["b", "c"])
    assert found == pytest.approx({"mean": (2 / 3 + 1) / 2, "Anterior": 2 / 3, "Posterior": 1})
    with pytest.raises(DataError, match="missing"):
        score(masks, dataset, ["a", "b", "c"])
