from __future__ import annotations

import resource
from pathlib import Path

import pytest

from medmoe_cli.core.base.errors import ResourceError
from medmoe_cli.core.engine.log import RunLog


def test_lines_are_strict_json_and_can_be_taken_back(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "deep" / "log.jsonl")
    assert log.size == 0
    log.append({"a": 1.5, "b": float("nan")})
    kept = log.sync()
    log.append({"a": 2})
    assert log.path.read_text() == '{"a": 1.5, "b": null}\n{"a": 2}\n'
    log.cut(kept)
    log.cut(kept + 100)
    assert log.path.read_text() == '{"a": 1.5, "b": null}\n'


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"a": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(ResourceError) as caught:
            log.append({"text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 5
    assert log.path.read_text() == '{"a": 1}\n'
