"""`medmoe models` as it is typed."""

import json
from pathlib import Path

import pytest
import torch

from medmoe_cli.app import run
from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.config.backbones import BACKBONES, BackboneRecord
from medmoe_cli.core.nn.weights import save_tensors


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with one small backbone."""
    folder = tmp_path / "workspace" / "models" / "mine"
    source = tmp_path / "mine.pth"
    source.write_bytes(b"what mine was made from")
    path = save_tensors(folder / "model.safetensors", {"weight": torch.arange(8.0)})
    record = {
        "name": "mine",
        "architecture": "sam-vit-b",
        "parameters": 8,
        "tensors_sha256": file_sha256(path),
        "source_file": "mine.pth",
        "source_sha256": file_sha256(source),
        "source_is_public": False,
        "keys": {"loaded": 1},
        "licence": "Apache-2.0",
        "added": "2025-01-01T00:00:00+00:00",
        "medmoe": "0",
    }
    jsonio.write(folder / "model.json", BackboneRecord.model_validate(record))
    return tmp_path / "workspace"


def medmoe(workspace: Path, *words: str) -> int:
    return run(["--workspace", str(workspace), "models", *words])


def test_list_as_a_table_and_as_json(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert medmoe(workspace, "list") == 0
    shown = capsys.readouterr()
    assert "mine" in shown.out
    assert "sam-vit-h" in shown.out
    assert "next: medmoe models add sam-vit-l sam_vit_l_0b3195.pth" in shown.err
    assert medmoe(workspace, "list", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in value["models"]] == ["mine"]
    assert [facts["name"] for facts in value["available"]] == [name for name in BACKBONES if name != "sam-vit-b"]


def test_an_empty_workspace_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert medmoe(tmp_path / "nothing", "list") == 0
    assert "no models yet" in capsys.readouterr().out
    assert not (tmp_path / "nothing").exists()


def test_adding_what_is_there_reports_it(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("add", "sam-vit-b", str(tmp_path / "mine.pth"), "--name", "mine")
    assert medmoe(workspace, *words) == 0
    shown = capsys.readouterr()
    assert "already there" in shown.out
    assert "next: medmoe models show mine" in shown.err
    assert medmoe(workspace, *words, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["cached"] is True
    assert value["keys"]["loaded"] == 1


def test_show_checks_the_weights(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert medmoe(workspace, "show", "mine", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["intact"] is True
    assert value["architecture"] == "sam-vit-b"
    assert medmoe(workspace, "show", "mine") == 0
    assert "intact" in capsys.readouterr().out
    file = workspace / "models" / "mine" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert medmoe(workspace, "show", "mine") == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "damaged weights" in shown.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "sam-vit-bb", "x.pth"), 2, "did you mean 'sam-vit-b'"),
        (("add", "sam-vit-b", "absent.pth"), 4, "no such file"),
        (("add", "sam-vit-b"), 2, "Missing argument"),
        (("show", "mine2"), 4, "did you mean 'mine'"),
        (("show", "sam-vit-l"), 4, "medmoe models add sam-vit-l sam_vit_l_0b3195.pth"),
        (("pull", "x"), 2, "unknown command 'pull'"),
        (("list", "--al"), 2, "unknown option"),
    ],
)
def test_errors_are_one_line_with_their_code(
    workspace: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert medmoe(workspace, *words) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert "fix:" in shown.err
    assert shown.out == ""


def test_a_text_file_is_refused_and_nothing_is_written(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sam.pth").write_text("not a checkpoint")
    assert medmoe(workspace, "add", "sam-vit-b", str(tmp_path / "sam.pth")) == 4
    assert "not a readable checkpoint" in capsys.readouterr().err
    assert sorted(entry.name for entry in (workspace / "models").iterdir()) == ["mine"]
