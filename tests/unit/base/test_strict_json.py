from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError, InterruptedRun, ProblemList, raise_all
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.seeds import derive_seed
from medmoe_cli.core.base.suggest import did_you_mean


def test_nan_becomes_null_and_numpy_becomes_numbers() -> None:
    text = jsonio.dumps({"a": float("nan"), "b": np.float32(1.5), "c": np.arange(3), "d": Path("x"), 5: (1, 2)})
    assert json.loads(text) == {"a": None, "b": 1.5, "c": [0, 1, 2], "d": "x", "5": [1, 2]}


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError):
        jsonio.dumps(object())


@pytest.mark.parametrize(("content", "word"), [(b"{", "JSON"), (b"\xff\xfe\x00", "text"), (None, "not found")])
def test_unreadable_json_names_the_file(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=word) as caught:
        jsonio.read(path)
    assert "x.json" in caught.value.line()


def test_hashes_do_not_depend_on_key_order() -> None:
    assert value_sha256({"a": 1, "b": [1.5, None]}) == value_sha256({"b": [1.5, None], "a": 1})
    assert value_sha256({"a": 1}) != value_sha256({"a": 2})


def test_seeds_tell_their_parts_apart() -> None:
    seeds = {
        derive_seed(0, "case_1", 1),
        derive_seed(0, "case_11", ""),
        derive_seed(1, "case_1", 1),
        derive_seed(0, "case_1", 2),
    }
    assert len(seeds) == 4
    assert derive_seed(0, "case_1", 1) == derive_seed(0, "case_1", 1)


def test_errors_are_one_line_with_the_next_command() -> None:
    error = DataError("label has\nanother grid", where="a.nii.gz", why="2x2x2 against 3x3x3.", fix="medmoe check x")
    assert error.line() == "label has another grid in a.nii.gz: 2x2x2 against 3x3x3. fix: medmoe check x"


def test_all_problems_are_raised_together() -> None:
    raise_all([])
    with pytest.raises(ConfigError):
        raise_all([ConfigError("one")])
    with pytest.raises(ProblemList) as caught:
        raise_all([ConfigError("one"), ConfigError("two")])
    assert [problem.what for problem in caught.value.problems] == ["one", "two"]
    assert caught.value.exit_code == 2


def test_errors_cross_processes_whole() -> None:
    error = ProblemList([DataError("one", where="a", fix="b"), InterruptedRun("two", signal_number=15)])
    back = pickle.loads(pickle.dumps(error))
    assert [problem.line() for problem in back.problems] == [problem.line() for problem in error.problems]
    assert (back.exit_code, back.problems[1].exit_code) == (3, 143)
    assert str(back) == str(error)


def test_suggestions() -> None:
    assert did_you_mean("segmot", ["segmote", "moe-sam"]) == "did you mean 'segmote'?"
    assert "moe-sam, segmote" in did_you_mean("zzz", ["segmote", "moe-sam"])
