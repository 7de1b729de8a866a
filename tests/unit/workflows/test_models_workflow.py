"""Backbones in the workspace: added whole or not at all, found again, refused when a byte changed."""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import BACKBONES, BackboneRecord, read_record
from medmoe_cli.core.config.sam3 import PUBLISHED
from medmoe_cli.core.nn.backbones import SamParts, backbone_parts, load_backbone
from medmoe_cli.core.nn.sam2d import SamEncoder, resize_table, sam_size
from medmoe_cli.core.nn.sam3.hf import build_sam3
from medmoe_cli.core.nn.weights import load_into, save_tensors
from medmoe_cli.core.workflows.models import add_model, find_model, list_models, show_model
from tests.tools.backbone_checkpoints import write_imisnet
from tests.tools.hostile_weights import hostile_files


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, Workspace]:
    """A checkpoint that segment_anything wrote, the model it wrote, and a workspace that took it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam")
    model = sam_model_registry["vit_b"]().eval()
    with torch.no_grad():
        for name, parameter in model.image_encoder.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.1)
    path = folder / "sam.pth"
    torch.save(model.state_dict(), path)
    workspace = Workspace(root=folder / "workspace", origin="test")
    add_model(workspace=workspace, architecture="sam-vit-b", path=path, reporter=Silent())
    return path, model, workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path / "workspace", origin="test")


def small_record(**changes: object) -> dict[str, object]:
    record = {
        "name": "small",
        "architecture": "sam-vit-b",
        "parameters": 2,
        "tensors_sha256": "0" * 64,
        "source_file": "x.pth",
        "source_sha256": "1" * 64,
        "source_is_public": None,
        "keys": {"loaded": 1},
        "licence": "Apache-2.0",
        "added": "2025-01-01T00:00:00+00:00",
        "medmoe": "0",
    }
    return {**record, **changes}


@pytest.fixture
def small(workspace: Workspace) -> Path:
    """A backbone folder with tiny weights and an honest record."""
    from medmoe_cli.core.base.hashing import file_sha256

    folder = workspace.models / "small"
    path = save_tensors(folder / "model.safetensors", {"weight": torch.arange(64.0)})
    jsonio.write(folder / "model.json", BackboneRecord.model_validate(small_record(tensors_sha256=file_sha256(path))))
    return folder


def test_a_checkpoint_of_segment_anything_is_taken_whole(sam: tuple[Path, nn.Module, Workspace]) -> None:
    path, model, workspace = sam
    record = read_record(workspace.models / "sam-vit-b")
    assert record.keys.loaded == 314
    assert (record.keys.resized, record.keys.unexpected, record.keys.left_out) == ((), (), ())
    assert record.parameters == BACKBONES["sam-vit-b"].parameters == 93_735_472
    assert record.source_is_public is False
    tensors = load_backbone(workspace.models / "sam-vit-b")
    expected = model.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    names = sorted(entry.name for entry in (workspace.models / "sam-vit-b").iterdir())
    assert names == ["model.json", "model.safetensors", "run.json"]
    run = json.loads((workspace.models / "sam-vit-b" / "run.json").read_text())
    assert (run["verb"], run["exit_code"]) == ("models add", 0)
    assert run["inputs_sha256"] == {str(path): record.source_sha256}


def encoder(size: int, tensors: dict[str, Tensor]) -> SamEncoder:
    ours = SamEncoder(sam_size("sam-vit-b"), image_size=size).eval()
    own = {name.removeprefix("image_encoder."): tensor for name, tensor in tensors.items() if "image_encoder" in name}
    report = load_into(ours, own, resize=resize_table)
    assert not report.missing
    assert not report.unexpected
    tables = {"pos_embed"} | {f"blocks.{block}.attn.rel_pos_{axis}" for block in (2, 5, 8, 11) for axis in "hw"}
    assert set(report.resized) == (tables if size != 1024 else set())
    return ours


def agree(ours: SamEncoder, theirs: nn.Module, size: int) -> None:
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(size))
    with torch.no_grad():
        assert float((ours(pixels).embedding - theirs(pixels)).abs().max()) <= 1e-4


def test_the_loaded_encoder_agrees_with_the_original_at_256(sam: tuple[Path, nn.Module, Workspace]) -> None:
    _, model, workspace = sam
    theirs = ImageEncoderViT(
        img_size=256,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(2, 5, 8, 11),
    ).eval()
    tables = model.image_encoder.state_dict()
    absolute = nn.functional.interpolate(tables["pos_embed"].permute(0, 3, 1, 2), size=(16, 16), mode="bilinear")
    tables["pos_embed"] = absolute.permute(0, 2, 3, 1)
    for name in list(tables):
        if "rel_pos" in name and len(tables[name]) == 127:  # segment_anything resizes these at every forward
            del tables[name]
    theirs.load_state_dict(tables, strict=False)
    for block, original in zip(theirs.blocks, model.image_encoder.blocks, strict=True):
        block.attn.rel_pos_h, block.attn.rel_pos_w = original.attn.rel_pos_h, original.attn.rel_pos_w
    agree(encoder(256, load_backbone(workspace.models / "sam-vit-b")), theirs, 256)


@pytest.mark.slow
def test_the_loaded_encoder_agrees_with_the_original_at_1024(sam: tuple[Path, nn.Module, Workspace]) -> None:
    _, model, workspace = sam
    agree(encoder(1024, load_backbone(workspace.models / "sam-vit-b")), model.image_encoder, 1024)


def test_adding_the_same_file_again_keeps_what_is_there(sam: tuple[Path, nn.Module, Workspace]) -> None:
    path, _, workspace = sam
    file = workspace.models / "sam-vit-b" / "model.safetensors"
    before = file.stat().st_mtime_ns
    added = add_model(workspace=workspace, architecture="sam-vit-b", path=path, reporter=Silent())
    assert added.cached
    assert file.stat().st_mtime_ns == before


def test_another_file_never_replaces_a_model(sam: tuple[Path, nn.Module, Workspace], tmp_path: Path) -> None:
    _, _, workspace = sam
    other = tmp_path / "other.safetensors"
    save_tensors(other, {"x": torch.ones(1)})
    with pytest.raises(ConfigError, match="--name"):
        add_model(workspace=workspace, architecture="sam-vit-b", path=other, reporter=Silent())


def test_a_checkpoint_of_another_architecture_names_the_right_one(
    sam: tuple[Path, nn.Module, Workspace], workspace: Workspace
) -> None:
    path, _, _ = sam
    for wrong in ("sam-vit-l", "imisnet-b"):
        with pytest.raises(CheckpointError, match=rf"not a {wrong}.*fix: medmoe models add sam-vit-b "):
            add_model(workspace=workspace, architecture=wrong, path=path, reporter=Silent())
    assert not list(workspace.models.glob("*"))


def test_an_incomplete_checkpoint_is_refused(sam: tuple[Path, nn.Module, Workspace], workspace: Workspace) -> None:
    _, model, _ = sam
    part = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("prompt_encoder")}
    path = save_tensors(workspace.root / "part.safetensors", part)
    with pytest.raises(CheckpointError, match=r"17 of sam-vit-b's tensors are missing: prompt_encoder"):
        add_model(workspace=workspace, architecture="sam-vit-b", path=path, reporter=Silent())
    assert not list(workspace.models.glob("*"))


def test_imisnet_is_mapped_to_sams_names(tmp_path: Path, workspace: Workspace) -> None:
    source = write_imisnet(tmp_path / "IMISNet-B.pth")
    reporter = Silent()
    added = add_model(
        workspace=workspace, architecture="imisnet-b", path=tmp_path / "IMISNet-B.pth", reporter=reporter, name="imis"
    )
    keys = added.record.keys
    assert keys.loaded == 314
    assert keys.unexpected == ()
    assert reporter.warnings == []
    assert added.record.parameters == BACKBONES["imisnet-b"].parameters
    assert len(keys.left_out) + keys.loaded == len(source)
    assert all(name.startswith(("text_", "mask_decoder.", "image_encoder.sam_encoder.neck.")) for name in keys.left_out)
    tensors = load_backbone(workspace.models / "imis")
    assert torch.equal(tensors["image_encoder.neck.0.weight"], source["image_encoder.neck.0.weight"])
    assert tensors["image_encoder.neck.0.weight"].shape == (768, 768, 1, 1)
    assert torch.equal(
        tensors["image_encoder.blocks.3.mlp.lin2.bias"], source["image_encoder.sam_encoder.blocks.3.mlp.fc2.bias"]
    )
    with torch.device("meta"):
        assert not load_into(SamParts("imisnet-b", image_size=512), tensors, resize=resize_table).missing


@pytest.mark.parametrize("architecture", ["sam-vit-b", "sam-med3d"])
def test_nothing_hostile_gets_in(tmp_path: Path, workspace: Workspace, architecture: str) -> None:
    for what, path in hostile_files(tmp_path, tmp_path / "canary"):
        with pytest.raises(CheckpointError):
            add_model(workspace=workspace, architecture=architecture, path=path, reporter=Silent())
        assert not (tmp_path / "canary").exists(), what
    assert not list(workspace.models.glob("*"))


@pytest.mark.parametrize(("architecture", "name"), [("sam-vit-x", None), ("sam-vit-b", "../up"), ("sam-vit-b", ".x")])
def test_unknown_architectures_and_bad_names(workspace: Workspace, architecture: str, name: str | None) -> None:
    with pytest.raises(ConfigError):
        add_model(workspace=workspace, architecture=architecture, path=Path("x"), reporter=Silent(), name=name)


def test_a_missing_file_says_where_to_get_it(workspace: Workspace) -> None:
    with pytest.raises(CheckpointError, match=r"get sam_vit_b_01ec64\.pth from github"):
        add_model(workspace=workspace, architecture="sam-vit-b", path=Path("nowhere.pth"), reporter=Silent())


def test_every_flipped_byte_and_every_truncation_is_refused(small: Path) -> None:
    assert load_backbone(small)["weight"].tolist() == list(range(64))
    file = small / "model.safetensors"
    good = file.read_bytes()
    rng = random.Random(0)
    damaged = [good[:cut] for cut in rng.sample(range(len(good)), 64)]
    for place in rng.choices(range(len(good)), k=256):
        damaged.append(good[:place] + bytes([good[place] ^ (1 << rng.randrange(8))]) + good[place + 1 :])
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match="sha256") as caught:
            load_backbone(small)
        assert caught.value.exit_code == 4
    file.write_bytes(good)
    assert len(load_backbone(small)) == 1


def test_a_damaged_record_is_refused_and_listed_as_such(small: Path, workspace: Workspace) -> None:
    record = small / "model.json"
    good = record.read_text()
    changes: list[Callable[[str], str]] = [
        lambda text: text[:50],
        lambda text: text.replace('"parameters": 2', '"parameters": "many"'),
        lambda text: text.replace('"kind"', '"sort"'),
        lambda text: "[]",
    ]
    for change in changes:
        record.write_text(change(good))
        with pytest.raises(CheckpointError, match=r"damaged model record.*fix: "):
            load_backbone(small)
        (entry,) = list_models(workspace).models
        assert entry.record is None
        assert entry.problem


def test_list_and_show(small: Path, workspace: Workspace) -> None:
    found = list_models(workspace)
    assert [entry.name for entry in found.models] == ["small"]
    assert "sam-vit-b" not in [facts.name for facts in found.available]
    assert {"sam-vit-l", "sam-vit-h", "imisnet-b"} <= {facts.name for facts in found.available}
    assert show_model(workspace, "small").record == read_record(small)
    assert show_model(workspace, str(small)).folder == small
    with pytest.raises(CheckpointError, match="did you mean 'small'"):
        show_model(workspace, "smal")
    with pytest.raises(CheckpointError, match=r"models add sam-vit-h sam_vit_h_4b8939\.pth"):
        find_model(workspace, "sam-vit-h")
    (small / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="gone"):
        show_model(workspace, "small")
    assert list_models(workspace).models[0].problem


def test_an_empty_workspace_lists_what_could_be_added(workspace: Workspace) -> None:
    found = list_models(workspace)
    assert found.models == ()
    assert [facts.name for facts in found.available] == list(BACKBONES)
    assert not workspace.root.exists()


@pytest.mark.parametrize("name", list(BACKBONES))
def test_the_facts_count_parameters_right(name: str) -> None:
    with torch.device("meta"):
        parts = build_sam3(PUBLISHED, image_size=PUBLISHED.pretrain_size) if name == "sam3" else backbone_parts(name)
        assert sum(parameter.numel() for parameter in parts.parameters()) == BACKBONES[name].parameters
