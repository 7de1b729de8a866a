"""Memory of the training device, without torch: a stand-in for nvidia-smi, and none."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from medmoe_cli.core.workflows.device_memory import device_memory


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{body}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "printf '81559\\n40960\\n'")
    assert (device_memory("auto").num_bytes, device_memory("auto").cuda) == (40960 << 20, True)
    assert device_memory("cuda:0").num_bytes == 81559 << 20
    assert not device_memory("cpu").cuda


@pytest.mark.parametrize("body", ["exit 9", "echo 'NVIDIA-SMI has failed'", "echo '[N/A]'"])
def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    fake(tmp_path, monkeypatch, body)
    found = device_memory("auto")
    assert not found.cuda
    assert 0 < found.num_bytes <= psutil.virtual_memory().total
