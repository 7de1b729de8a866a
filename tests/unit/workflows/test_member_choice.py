"""By whose rules a scan is shown to a model of several datasets: said, declared, or told from the values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.plan import ChannelPlan, MemberPlan, Plan
from medmoe_cli.core.imaging.geometry import Geometry
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.workflows.predicting.member_choice import MemberChoice, check_modality, choose_member, kind_of
from tests.tools.dicoms import stack, voxels
from tests.tools.plans import slice_plan

CT = ChannelPlan(name="CT", normalization="ct", low=-100, high=300)
MR = ChannelPlan(name="T1", normalization="percentile")
GREY = ChannelPlan(name="0", normalization="rgb")
COLOURS = tuple(ChannelPlan(name=name, normalization="rgb") for name in "RGB")


def member(
    name: str, modality: str, channels: tuple[ChannelPlan, ...], *, dims: int = 3, cases: int = 10
) -> MemberPlan:
    return MemberPlan(
        dataset=name,
        modality=modality,
        dimensionality=dims,
        num_cases=cases,
        classes={"organ": "organ"},
        plan=slice_plan(channels=channels, labels={"organ": 1}),
    )


PLAN: Plan = slice_plan(labels={"organ": 1}).model_copy(
    update={
        "dataset": "all",
        "members": (
            member("btcv", "CT", (CT,)),
            member("amos", "CT", (CT,), cases=30),
            member("hearts", "MR", (MR,)),
            member("chests", "X-ray", (GREY,), dims=2),
            member("skins", "dermoscopy", COLOURS, dims=2),
        ),
    }
)


def scan(data: NDArray[np.generic], *, path: str = "/nowhere/scan.nii.gz", kind: str = "nifti") -> Image:
    return Image(
        data=data, geometry=Geometry.plain(data.shape[1:], (1, 1, 1)), header=Header(format=kind, path=Path(path))
    )


VOLUME = scan(np.arange(60, dtype=np.int16).reshape(1, 5, 4, 3))
AIR = scan(np.arange(60, dtype=np.int16).reshape(1, 5, 4, 3) - 1000)
PICTURE = scan(np.arange(20, dtype=np.uint8).reshape(1, 5, 4, 1), kind="png")
COLOUR = scan(np.arange(60, dtype=np.uint8).reshape(3, 5, 4, 1), kind="jpg")
GREY_IN_COLOUR = scan(np.repeat(np.arange(20, dtype=np.uint8).reshape(1, 5, 4, 1), 3, axis=0), kind="png")


@pytest.mark.parametrize(
    ("image", "wanted"),
    [(AIR, "amos"), (VOLUME, "hearts"), (PICTURE, "chests"), (COLOUR, "skins"), (GREY_IN_COLOUR, "chests")],
)
def test_without_a_word_the_values_tell(image: Image, wanted: str) -> None:
    found = choose_member(PLAN, image, None)
    assert found.member == wanted
    assert found.guessed
    choice = MemberChoice()
    plan = choice.plan_for(PLAN, "case", image)
    assert plan.channels == PLAN.member(wanted).plan.channels
    assert plan.labels == PLAN.labels
    assert not plan.members
    assert f"shown as {wanted} (guessed" in choice.said("case")
    assert "--modality NAME says otherwise" in choice.said("case")
    assert choice.said("another") == ""


@pytest.mark.parametrize(
    ("wanted", "member_name"),
    [("CT", "amos"), ("ct", "amos"), ("btcv", "btcv"), ("MRI", "hearts"), ("cxr", "chests"), ("dermoscopy", "skins")],
)
def test_what_is_asked_for_goes_first(wanted: str, member_name: str) -> None:
    check_modality((PLAN,), wanted)
    found = choose_member(PLAN, VOLUME, wanted)
    assert (found.member, found.guessed) == (member_name, False)
    assert f"--modality {wanted}" in found.why
    assert ("largest of 2" in found.why) == (member_name == "amos")


def test_a_modality_that_no_member_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="no member of 'all' is 'ultrasound'") as found:
        check_modality((PLAN,), "ultrasound")
    assert "btcv, amos, hearts" in found.value.why
    with pytest.raises(ConfigError, match="does nothing here"):
        check_modality((slice_plan(),), "CT")
    check_modality((slice_plan(),), None)


def test_a_dicom_says_its_modality(tmp_path: Path) -> None:
    stack(tmp_path / "series", voxels(2), np.array([0.0, 2.0]))
    image = scan(VOLUME.data, path=str(tmp_path / "series"), kind="dicom")
    found = choose_member(PLAN, image, None)
    assert found.member == "amos"
    assert found.why.startswith("DICOM Modality CT")
    assert not found.guessed


@pytest.mark.parametrize(("modality", "wanted"), [("MR", "hearts"), ({"0": "CT"}, "amos"), (["X-ray"], "chests")])
def test_the_dataset_file_beside_the_scans_says_it(tmp_path: Path, modality: object, wanted: str) -> None:
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality}))
    found = choose_member(PLAN, scan(VOLUME.data, path=str(tmp_path / "imagesTs" / "a.nii.gz")), None)
    assert found.member == wanted
    assert "dataset.json" in found.why


def test_scans_of_a_member_itself_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "btcv" / "imagesTs").mkdir(parents=True)
    (tmp_path / "btcv" / "dataset.json").write_text(json.dumps({"modality": "CT"}))
    found = choose_member(PLAN, scan(VOLUME.data, path=str(tmp_path / "btcv" / "imagesTs" / "a.nii.gz")), None)
    assert found.member == "btcv"


def test_words_for_the_kinds() -> None:
    assert [kind_of(text) for text in ("CT", "T2-weighted MRI", "chest X-ray", "CR", "RGB photograph", "PET")] == [
        "CT",
        "MR",
        "X-ray",
        "X-ray",
        "photograph",
        "",
    ]


def test_a_model_of_one_dataset_has_nothing_to_choose() -> None:
    choice = MemberChoice()
    plan = slice_plan()
    assert choice.plan_for(plan, "case", VOLUME) is plan
    assert choice.said("case") == ""
