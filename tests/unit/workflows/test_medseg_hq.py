"""convert medseg-hq on phantoms: what is selected, written, refused, and that nothing is measured twice."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError, ProblemList
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data import quality_scan
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.reporting.contact_sheet import Block
from medmoe_cli.core.workflows.medseg import sheets
from medmoe_cli.core.workflows.medseg.build import MedSegHqOptions, MedSegHqResult, list_sources, run_medseg_hq
from medmoe_cli.core.workflows.named_dataset import named_folder
from tests.tools.cli import medmoe_here
from tests.tools.datasets import make_dataset


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Block, ...]]:
    """What the sheets would show, by their titles: drawing takes seconds and has tests of its own."""
    shown: dict[str, tuple[Block, ...]] = {}

    def note(blocks: tuple[Block, ...], *, title: str) -> bytes:
        shown[title.partition(" ")[0]] = blocks
        return b"\x89PNG"

    monkeypatch.setattr(sheets, "draw_contact_sheet", note)
    return shown


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A volume member, a colour member, and a dataset that is none of the paper's."""
    datasets = tmp_path / "home" / "datasets"
    make_dataset(
        datasets / "btcv", cases=4, modality="CT", class_names=("kidney_right", "kidney_left"), spacing_mm=(1, 1, 3)
    )
    make_dataset(datasets / "isic-2018", cases=5, dims=2, colour=True, classes=1, class_names=("lesion",))
    make_dataset(datasets / "own", cases=3, classes=1, seed=7, class_names=("right kidney",), cases_per_patient=3)
    return Workspace(root=tmp_path / "home", origin="test")


def build(workspace: Workspace, **options: Any) -> MedSegHqResult:
    overwrite = bool(options.pop("overwrite", False))
    return run_medseg_hq(
        workspace=workspace,
        options=MedSegHqOptions(**options),
        overwrite=overwrite,
        workers=1,
        reporter=Silent(),
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_mask_of_every_slice_is_measured(workspace: Workspace) -> None:
    result = build(workspace, members=("+own",), fraction=1.0)
    quality = rows_of(result.root / "quality.csv")
    for case in open_dataset(workspace.datasets / "btcv").training:
        assert case.label is not None
        label = read_labels(case.label).data
        expected = {
            (index, name)
            for index in range(label.shape[2])
            for name, value in (("kidney_right", 1), ("kidney_left", 2))
            if (label[:, :, index] == value).any()
        }
        found = {
            (int(row["slice"]), row["class"]) for row in quality if (row["member"], row["case"]) == ("btcv", case.id)
        }
        assert found == expected
    assert {row["member"] for row in quality} == {"btcv", "isic-2018", "own"}


def test_slices_follow_the_coarsest_axis(tmp_path: Path) -> None:
    make_dataset(tmp_path / "datasets" / "acdc", cases=2, shape=(30, 10, 26), spacing_mm=(1, 5, 1))
    result = build(Workspace(root=tmp_path, origin="test"))
    assert result.sheet.members[0].slice_axis == "y"
    assert {int(row["slice"]) for row in rows_of(result.root / "quality.csv")} <= set(range(10))
    assert json.loads((result.root / "dataset.json").read_text())["sources"][0]["slice_axis"] == "y"


def test_the_selection_opens_as_a_collection(workspace: Workspace) -> None:
    result = build(workspace, members=("+own",), fraction=0.5)
    selection, quality = rows_of(result.root / "selection.csv"), rows_of(result.root / "quality.csv")
    assert len(selection) == sum(row["selected"] == "1" for row in quality) == result.sheet.masks
    usable = Counter((row["member"], row["class"]) for row in quality if row["rank"])
    chosen = Counter((row["member"], row["class"]) for row in quality if row["selected"] == "1")
    assert chosen == {group: -(-count // 2) for group, count in usable.items()}
    assert all((row["why_not"] == "") == (row["selected"] == "1") for row in quality)

    dataset = open_dataset(result.root)
    assert set(dataset.labels) == {"right_kidney", "left_kidney", "skin_lesion"}
    kept = {
        (member.name, case, index, name)
        for member in dataset.members
        for case, slices in (member.selection or {}).items()
        for index, names in slices.items()
        for name in names
    }
    assert kept == {(row["member"], row["case"], int(row["slice"]), row["class"]) for row in selection}
    assert dataset.split_rule is not None
    assert dataset.split_rule.held_out == 0.1


def test_the_sheet_counts_what_the_tables_hold(workspace: Workspace) -> None:
    sheet = build(workspace, members=("+own",), fraction=0.5).sheet
    quality = rows_of(workspace.datasets / "medseg-hq" / "quality.csv")
    for member in sheet.members:
        own = [row for row in quality if row["member"] == member.dataset]
        chosen = [row for row in own if row["selected"] == "1"]
        assert (member.masks, member.masks_selected) == (len(own), len(chosen))
        assert member.images_selected == len({(row["case"], row["slice"]) for row in chosen})
        assert member.cases_selected == len({row["case"] for row in chosen})
    assert sheet.members[2].patients == 1
    assert sheet.members[2].source == ""
    assert sum(one.selected for one in sheet.classes) == sheet.masks == sum(one.masks for one in sheet.modalities)
    assert len(sheet.missing) == 10
    assert "ISIC2018" not in {one.source for one in sheet.missing}
    text = (workspace.datasets / "medseg-hq" / "DATASHEET.md").read_text()
    assert "BTCV" in text
    assert "medmoe convert RELEASE --format word --name word" in text


def test_sheets_show_the_best_and_the_worst_of_each_member(
    workspace: Workspace, drawn: dict[str, tuple[Block, ...]]
) -> None:
    root = build(workspace).root
    assert sorted(path.name for path in (root / "contact_sheets").iterdir()) == ["btcv.png", "isic-2018.png"]
    assert set(drawn) == {"btcv", "isic-2018"}
    best, worst = drawn["btcv"]
    scores = sorted(
        float(row["score"]) for row in rows_of(root / "quality.csv") if row["member"] == "btcv" and row["score"]
    )
    assert [tile.score for tile in best.tiles] == pytest.approx(scores[::-1][: len(best.tiles)], abs=1e-5)
    assert [tile.score for tile in worst.tiles] == pytest.approx(scores[: len(worst.tiles)], abs=1e-5)
    assert len(best.tiles) == min(20, (len(scores) + 1) // 2)
    tile = best.tiles[0]
    case, _, index = tile.title.partition(", slice ")
    label_path = next(one for one in open_dataset(workspace.datasets / "btcv").training if one.id == case).label
    assert label_path is not None
    expected = {"kidney_right": 1, "kidney_left": 2}[tile.name] == read_labels(label_path).data[:, :, int(index)].T
    assert (tile.mask == expected).all()
    assert drawn["isic-2018"][0].tiles[0].picture.shape[2] == 3


def test_the_same_command_gives_the_same_files_and_another_seed_does_not(workspace: Workspace) -> None:
    def contents(**options: object) -> tuple[bytes, bytes]:
        root = build(workspace, overwrite=True, **options).root
        return (root / "selection.csv").read_bytes(), (root / "quality.csv").read_bytes()

    first = contents(fraction=0.3)
    assert contents(fraction=0.3) == first
    assert contents(fraction=0.3, seed=1) != first


def test_masks_are_measured_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    build(workspace, fraction=0.3)

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(quality_scan, "_measure", refuse)
    build(workspace, fraction=0.6, overwrite=True)


def test_changed_files_are_measured_again(workspace: Workspace) -> None:
    before = build(workspace, fraction=1.0).sheet.members[0].masks
    make_dataset(workspace.datasets / "btcv", cases=4, modality="CT", classes=1, class_names=("kidney_right",), seed=3)
    assert build(workspace, fraction=1.0, overwrite=True).sheet.members[0].masks < before


def test_a_veto_is_kept_to(workspace: Workspace, tmp_path: Path) -> None:
    first = rows_of(build(workspace, fraction=0.5).root / "selection.csv")
    refused = next(row for row in first if row["member"] == "btcv")
    veto = tmp_path / "veto.txt"
    veto.write_text(f"btcv/{refused['case']}/{refused['slice']}\nisic-2018/case_001\n")
    result = build(workspace, fraction=0.5, exclude=veto, overwrite=True)
    kept = {(row["member"], row["case"], row["slice"]) for row in rows_of(result.root / "selection.csv")}
    assert ("btcv", refused["case"], refused["slice"]) not in kept
    assert not any(member == "isic-2018" and case == "case_001" for member, case, _ in kept)
    vetoed = [row for row in rows_of(result.root / "quality.csv") if row["why_not"] == "excluded by hand"]
    assert len(vetoed) == sum(member.masks_excluded for member in result.sheet.members) >= 2


def test_vetoes_of_nothing_stop_before_anything_is_written(workspace: Workspace, tmp_path: Path) -> None:
    veto = tmp_path / "veto.txt"
    veto.write_text("btcv/case_00\nisic-2018/case_000/4\n")
    with pytest.raises(ProblemList) as caught:
        build(workspace, exclude=veto)
    assert [problem.what for problem in caught.value.problems] == [
        "no training case 'case_00'",
        "no mask in slice '4'",
    ]
    assert not (workspace.datasets / "medseg-hq").exists()


def test_held_out_patients_and_the_score_are_on_disk(workspace: Workspace) -> None:
    result = build(workspace, members=("+own=acdc",), fraction=1.0)
    (fold,) = json.loads((result.root / "splits_final.json").read_text())
    assert {case.partition("/")[0] for case in fold["val"]} == {"btcv", "isic-2018"}  # own is one patient's
    assert not set(fold["train"]) & set(fold["val"])
    text = (result.root / "DATASHEET.md").read_text()
    for words in ("(rank - 1/2) / n", "variance of the Laplacian", "64-bin histogram", "connected regions of m"):
        assert words in text


def test_a_member_of_specks_is_left_out_by_name(workspace: Workspace) -> None:
    make_dataset(workspace.datasets / "acdc", cases=2, class_names=("specks",), seed=3)
    for path in (workspace.datasets / "acdc" / "labelsTr").iterdir():
        image = nib.load(path)
        label = np.zeros(image.shape, np.uint8)
        label[2, 2, 1] = 1
        nib.save(nib.Nifti1Image(label, image.affine), path)
    heard = Silent()
    result = run_medseg_hq(workspace=workspace, options=MedSegHqOptions(fraction=1.0), workers=1, reporter=heard)
    (warning,) = [line for line in heard.warnings if line.startswith("acdc is left out")]
    assert "of its 2 masks 0 are larger than specks" in warning
    content = json.loads((result.root / "dataset.json").read_text())
    assert [source["dataset"] for source in content["sources"]] == ["btcv", "isic-2018"]
    assert "specks" not in content["labels"]
    assert [member.dataset for member in result.sheet.members] == ["acdc", "btcv", "isic-2018"]


def test_a_dry_run_checks_what_needs_no_voxel(workspace: Workspace, tmp_path: Path) -> None:
    veto = tmp_path / "veto.txt"
    veto.write_text("btvc/case_000\n")
    with pytest.raises(ConfigError, match="btvc"):
        list_sources(workspace, options=MedSegHqOptions(exclude=veto))
    with pytest.raises(ConfigError):
        list_sources(workspace, options=MedSegHqOptions(masks=0))
    veto.write_text("btcv/case_000\n")
    given = ("--members", "+own", "--fraction", "0.5", "--exclude", veto, "--overwrite")
    ran = medmoe_here("--workspace", workspace.root, "convert", "medseg-hq", *given, "--dry-run")
    assert ran.code == 0, ran.err
    assert "next: medmoe convert medseg-hq --name medseg-hq" in ran.err
    for word in ("--members +own", "--fraction 0.5", f"--exclude {veto}", "--overwrite"):
        assert word in ran.err.replace("\n", " ")


def test_two_of_one_release_are_told_with_the_command(workspace: Workspace) -> None:
    make_dataset(workspace.datasets / "btcv-again", cases=2, modality="CT", class_names=("spleen",))
    content = json.loads((workspace.datasets / "btcv-again" / "dataset.json").read_text())
    content["converted_by"] = "medmoe 0 from btcv"
    (workspace.datasets / "btcv-again" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        named_folder(workspace, "medseg-hq")
    assert "2 datasets are BTCV: btcv, btcv-again: its masks would count twice" in str(caught.value)
    assert caught.value.fix == "medmoe convert medseg-hq --members NAMES"


def test_members_are_recognised_named_declared_or_added(workspace: Workspace) -> None:
    def members(*wanted: str) -> dict[str, str]:
        return {
            row.dataset: row.title
            for row in list_sources(workspace, options=MedSegHqOptions(members=wanted))
            if row.dataset
        }

    assert members() == {"btcv": "BTCV", "isic-2018": "ISIC2018"}
    assert members("own") == {"own": ""}
    assert members("+own") == {"btcv": "BTCV", "isic-2018": "ISIC2018", "own": ""}
    assert members("own=chaos-t2", "btcv") == {"own": "CHAOS (T2)", "btcv": "BTCV"}


def test_wrong_members_are_reported_together(workspace: Workspace) -> None:
    with pytest.raises(ProblemList) as caught:
        list_sources(workspace, options=MedSegHqOptions(members=("btvc", "own=acds")))
    lines = [problem.line() for problem in caught.value.problems]
    assert "did you mean 'btcv'" in lines[0]
    assert "did you mean 'acdc'" in lines[1]
    with pytest.raises(ConfigError, match="some without"):
        list_sources(workspace, options=MedSegHqOptions(members=("+own", "btcv")))
    with pytest.raises(ConfigError, match="2 datasets are BTCV"):
        list_sources(workspace, options=MedSegHqOptions(members=("+own=btcv",)))


def test_two_names_for_one_class_stop_before_anything_is_measured(tmp_path: Path) -> None:
    make_dataset(tmp_path / "datasets" / "btcv", class_names=("kidney_right", "right kidney"))
    with pytest.raises(DataError, match="two names for one class"):
        build(Workspace(root=tmp_path, origin="test"))
    assert not (tmp_path / "preprocessed").exists()


def test_a_workspace_without_any_of_them(tmp_path: Path) -> None:
    make_dataset(tmp_path / "datasets" / "mine")
    with pytest.raises(DataError, match=r"none of its datasets \(mine\)"):
        build(Workspace(root=tmp_path, origin="test"))
    # What there could be is told all the same.
    ran = medmoe_here("--workspace", tmp_path, "convert", "medseg-hq", "--dry-run")
    assert ran.code == 0, ran.err
    assert ran.out.count("missing") == 13
    assert "challenge.isic-archive.com" in ran.out
    assert "next: medmoe convert RELEASE --format chaos --subset t1 --name chaos-t1" in ran.err
    ran = medmoe_here("--workspace", tmp_path, "convert", "medseg-hq", "--dry-run", "--members", "mine")
    assert "next: medmoe convert medseg-hq --name medseg-hq --members mine" in ran.err


@pytest.mark.parametrize("options", [{"masks": 3, "fraction": 0.5}, {"masks": 0}, {"fraction": 1.5}, {"masks": 10**6}])
def test_quotas_that_make_no_sense(workspace: Workspace, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build(workspace, **options)
    assert not (workspace.datasets / "medseg-hq").exists()


def test_so_many_masks_in_all(workspace: Workspace) -> None:
    assert build(workspace, masks=13).sheet.masks == 13


def test_large_pictures_are_measured_as_training_sees_them(tmp_path: Path) -> None:
    make_dataset(tmp_path / "datasets" / "sz-cxr", cases=1, dims=2, shape=(1100, 900), classes=1)
    result = build(Workspace(root=tmp_path, origin="test"), fraction=1.0)
    table = quality_scan.read_table(next((tmp_path / "preprocessed" / "sz-cxr" / "quality").glob("*.npy")))
    case = open_dataset(tmp_path / "datasets" / "sz-cxr").training[0]
    assert case.label is not None
    share = float(np.mean(read_labels(case.label).data > 0))
    assert table["foreground"][0] == pytest.approx(share, rel=0.02)
    assert table["pixels"][0] < 512 * 512
    assert result.sheet.masks == 1


def test_the_command_builds_it_and_says_what_is_next(workspace: Workspace) -> None:
    ran = medmoe_here(
        "--workspace", workspace.root, "--json", "convert", "medseg-hq", "--fraction", "0.5", "--workers", "1"
    )
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["datasheet"]["name"] == "medseg-hq"
    assert len(told["sources"]) == 12
    assert "medmoe train --method segmote --data medseg-hq" in ran.err
    assert json.loads((workspace.datasets / "medseg-hq" / "run.json").read_text())["verb"] == "convert"

    again = medmoe_here("--workspace", workspace.root, "convert", "medseg-hq", "--format", "btcv", "--limit", "3")
    assert again.code == 2
    assert len(again.error_lines) == 2
