"""One network for all members, and for each its own way to be shown to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.fingerprint import Fingerprint
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.collection_plan import joint_fingerprint, make_collection_plan
from medmoe_cli.core.data.dataset import Case, Dataset, Member, SplitRule
from medmoe_cli.core.data.prepare import prepare
from medmoe_cli.core.imaging.geometry import Geometry
from tests.tools.plans import SLICES, VOLUMES, fingerprint_of, image_of


def member(
    name: str, labels: dict[str, int], channels: tuple[str, ...], *, modality: str = "", ending: str = ".nii.gz"
) -> Dataset:
    case = Case(id="case_000", images=(Path("x"),), label=Path("y"), patient="a")
    return Dataset(
        name=name,
        root=Path("/nowhere") / name,
        channels=channels,
        labels=labels,
        file_ending=ending,
        training=(case,),
        test=(),
        modality=modality,
    )


def collection(*members: Member) -> Dataset:
    labels = sorted({common for one in members for common in one.classes.values()})
    return Dataset(
        name="all",
        root=Path("/nowhere/all"),
        channels=(),
        labels={name: value for value, name in enumerate(labels, start=1)},
        file_ending="",
        training=(),
        test=(),
        class_prompts={name: name for name in labels},
        modality=", ".join(one.dataset.modality for one in members),
        members=members,
        split_rule=SplitRule(),
    )


CT = Member(
    dataset=member("ct", {"RK": 3, "spleen": 7}, ("CT",), modality="CT"),
    classes={"RK": "right_kidney", "spleen": "spleen"},
)
MR = Member(
    dataset=member("mr", {"spleen": 1}, ("T1", "T2", "FLAIR", "DWI"), modality="MR"), classes={"spleen": "spleen"}
)
RGB = Member(
    dataset=member("skin", {"lesion": 1}, ("R", "G", "B"), modality="dermoscopy", ending=".png"),
    classes={"lesion": "skin_lesion"},
)
FACTS = {
    "ct": fingerprint_of(
        channels=("CT",),
        shapes=((200, 160, 30),) * 3,
        spacings=((1.0, 1.0, 5.0),) * 3,
        low=-100,
        high=300,
        minimum=-1000,
    ),
    "mr": fingerprint_of(channels=("T1", "T2", "FLAIR", "DWI"), shapes=((60, 20, 64),), spacings=((1.0, 4.0, 1.0),)),
    "skin": fingerprint_of(
        channels=("R", "G", "B"), shapes=((300, 200, 1),) * 2, spacings=((1.0, 1.0, 1.0),) * 2, maximum=255.0
    ),
}


def planned(*members: Member, **overrides: object) -> Plan:
    facts: dict[str, Fingerprint] = {one.name: FACTS[one.name] for one in members}
    return make_collection_plan(
        dataset=collection(*members),
        fingerprints=facts,
        card=SLICES,
        method="segmote",
        preset="test",
        overrides=PlanConfig.model_validate(overrides),
    )


def test_each_member_keeps_its_slices_and_intensities_and_shares_the_size() -> None:
    plan = planned(CT, MR, RGB)
    assert plan.labels == {"right_kidney": 1, "skin_lesion": 2, "spleen": 3}
    assert [(one.dataset, one.plan.slice_axis) for one in plan.members] == [("ct", 2), ("mr", 1), ("skin", 2)]
    assert [one.plan.channels[0].normalization for one in plan.members] == ["ct", "percentile", "rgb"]
    assert plan.member("ct").plan.channels[0].low == -100
    assert {one.plan.input_size for one in plan.members} == {plan.input_size} == {320}
    assert plan.num_experts == 4
    assert plan.input_channels == 3
    assert [one.plan.shown for one in plan.members] == [(0, 0, 0), (0, 1, 2), (0, 1, 2)]
    assert "first 3 of 4" in plan.member("mr").plan.reasons["channels"]
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan


def test_values_lead_from_files_and_stores_to_the_common_numbers() -> None:
    plan = planned(CT, MR)
    own = plan.member("ct")
    assert own.plan.labels == {"RK": 1, "spleen": 2}
    assert own.values(plan.labels) == {1: 1, 2: 2}
    assert plan.reference_values("ct/case_000") == {3: 1, 7: 2}
    assert plan.known_values("mr/case_000") == (2,)
    part = Member(dataset=CT.dataset, classes={"spleen": "spleen"})
    assert planned(part, MR).reference_values("ct/any") == {3: 0, 7: 1}


def test_channels_without_colour_are_as_many_as_the_widest_has() -> None:
    plan = planned(CT, MR)
    assert plan.input_channels == 4
    assert plan.member("ct").plan.shown == (0, 0, 0, 0)
    assert planned(CT).input_channels == 1
    chosen = planned(CT, MR, RGB, member_channels={"mr": (3, 1, 0)})
    assert chosen.member("mr").plan.shown == (3, 1, 0)
    pair = planned(CT, MR, RGB, member_channels={"mr": (3, 1)})
    assert pair.member("mr").plan.shown == (3, 1, 3)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"member_channels": {"mr": (4,)}}, "has no channel 4"),
        ({"member_channels": {"mri": (0,)}}, "unknown member 'mri'"),
    ],
)
def test_channels_that_are_not_there_are_refused(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(CT, MR, **overrides)


def test_a_selection_fixes_the_axis_it_counts_along() -> None:
    selected = Member(dataset=CT.dataset, classes=CT.classes, slice_axis="x", selection={})
    assert planned(selected, MR).member("ct").plan.slice_axis == 0
    with pytest.raises(ConfigError, match="does not go with the selection"):
        planned(selected, MR, slice_axis="y")


def test_pictures_are_not_for_volume_methods() -> None:
    with pytest.raises(ConfigError, match="'skin' is of pictures"):
        make_collection_plan(
            dataset=collection(CT, RGB),
            fingerprints=FACTS,
            card=VOLUMES,
            method="v",
            preset="p",
            overrides=PlanConfig(),
        )
    plan = make_collection_plan(
        dataset=collection(CT, MR), fingerprints=FACTS, card=VOLUMES, method="v", preset="p", overrides=PlanConfig()
    )
    assert plan.spacing_mm is not None
    assert {one.plan.spacing_mm for one in plan.members} == {plan.spacing_mm}


def test_a_members_image_becomes_the_networks_channels() -> None:
    plan = planned(CT, MR, RGB, input_size=32, context_slices=1)
    image = image_of(
        np.random.default_rng(0).integers(0, 200, (1, 20, 16, 5)).astype(np.int16),
        Geometry.plain((20, 16, 5), (1, 1, 5)),
    )
    shown = plan.for_member("ct")
    assert shown.labels == plan.labels
    seen = prepare(image, shown).slice(2).image
    assert seen.shape == (9, 32, 32) == (plan.input_channels, 32, 32)
    assert (seen[0:3] == seen[0]).all()
    assert (seen[3:6] == seen[3]).all()
    assert not (seen[0] == seen[3]).all()
    alone = prepare(image, plan.member("ct").plan.model_copy(update={"shown": ()})).slice(2).image
    assert (alone == seen[[0, 3, 6]]).all()


def test_the_joint_fingerprint_counts_common_classes() -> None:
    facts = joint_fingerprint(
        collection(CT, MR), FACTS, {name: planned(CT, MR).member(name).plan for name in ("ct", "mr")}
    )
    assert facts.cases["mr/case_000"].shape == (60, 64, 20)
    assert facts.cases["mr/case_000"].voxels_per_label == {2: 10}
    assert facts.cases["ct/case_000"].voxels_per_label == {}
