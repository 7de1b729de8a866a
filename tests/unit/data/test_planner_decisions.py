"""Every value of a plan, and that its reason carries the numbers."""

from __future__ import annotations

import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError, ProblemList
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PlanConfig
from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.planner import GIB, make_plan, modality_names
from tests.tools.plans import SLICES, VOLUMES, dataset_of, fingerprint_of

MR = dataset_of()


def plan(dataset: Dataset = MR, *, card=SLICES, memory=16 * GIB, cuda=False, overrides=None, **fingerprint) -> Plan:
    fingerprint.setdefault("channels", dataset.channels)
    return make_plan(
        dataset=dataset,
        fingerprint=fingerprint_of(**fingerprint),
        card=card,
        method="segmote",
        preset="test",
        overrides=overrides or PlanConfig(),
        memory_bytes=memory,
        cuda=cuda,
    )


@pytest.mark.parametrize(
    ("spacing", "shape", "axis", "words"),
    [
        ((1.0, 1.0, 3.0), (100, 80, 20), 2, "coarsest axis of the median spacing 1x1x3"),
        ((5.0, 0.9, 0.9), (20, 100, 80), 0, "x: the coarsest"),
        ((0.9, 4.0, 0.9), (90, 20, 80), 1, "y: the coarsest"),
        ((1.0, 1.0, 1.0), (35, 50, 36), 2, "same along all axes"),
        ((1.02, 1.0, 1.0), (35, 50, 36), 2, "same along all axes"),
        ((1.0, 1.0, 1.0), (512, 400, 1), 2, "2D"),
        ((1.0, 1.0, 1.0), (1, 512, 400), 0, "2D"),
    ],
)
def test_slice_axis(spacing: tuple[float, float, float], shape: tuple[int, int, int], axis: int, words: str) -> None:
    decided = plan(shapes=[shape] * 3, spacings=[spacing] * 3)
    assert decided.slice_axis == axis
    assert words in decided.reasons["slice_axis"]


@pytest.mark.parametrize(
    ("shape", "spacing", "size", "words"),
    [
        ((35, 50, 36), (1.0, 1.0, 1.0), 64, "50"),
        ((512, 512, 90), (0.8, 0.8, 5.0), 512, "512x512"),
        ((24, 20, 10), (1.0, 1.0, 2.0), 64, "at least 64"),
        ((2000, 3000, 1), (1.0, 1.0, 1.0), 1024, "at most 1024"),
        ((100, 80, 10), (1.0, 2.0, 5.0), 160, "160 of the finer spacing"),
        ((20, 100, 260), (6.0, 1.0, 1.0), 288, "100x260"),
    ],
)
def test_input_size(shape: tuple[int, int, int], spacing: tuple[float, float, float], size: int, words: str) -> None:
    decided = plan(shapes=[shape], spacings=[spacing])
    assert decided.input_size == size
    assert size % 32 == 0
    assert words in decided.reasons["input_size"]


@pytest.mark.parametrize(
    ("shape", "most", "size", "words"),
    [
        ((512, 512, 90), 160, 160, ", at most 160: max_input_size is set by the preset or --set"),
        ((512, 512, 90), 175, 160, ", at most 160: max_input_size"),
        ((70, 90, 30), 160, 96, "rounded up to a multiple of 32"),
        ((24, 20, 10), 32, 32, "rounded up"),
        ((24, 20, 10), 160, 64, "at least 64"),
        ((2000, 3000, 1), 2048, 2048, "at most 2048"),
    ],
)
def test_input_size_is_at_most_the_presets(shape: tuple[int, int, int], most: int, size: int, words: str) -> None:
    decided = plan(shapes=[shape], overrides=PlanConfig(max_input_size=most))
    assert decided.input_size == size
    assert words in decided.reasons["input_size"]


@pytest.mark.parametrize("name", ["CT", "ct", "CTA", "cbct", "CT_arterial", "abdomen-CT", "low dose ct", "CT1"])
def test_ct_by_channel_name(name: str) -> None:
    decided = plan(dataset_of(channels=[name]), low=-60.5, high=240.25)
    assert (decided.channels[0].normalization, decided.channels[0].low, decided.channels[0].high) == (
        "ct",
        -60.5,
        240.25,
    )
    assert "-60.5 to 240.25" in decided.reasons["normalization"]
    assert "its name contains" in decided.reasons["normalization"]


@pytest.mark.parametrize("name", ["MR", "T2", "ADC", "cta2d_ish", "spectral", "ctscan", "ECTO"])
def test_others_are_per_image(name: str) -> None:
    assert plan(dataset_of(channels=[name])).channels[0].normalization == "percentile"


def test_the_modality_speaks_for_a_single_channel_only() -> None:
    single = plan(dataset_of(channels=["image"], modality="contrast-enhanced CT"))
    assert single.channels[0].normalization == "ct"
    assert "modality" in single.reasons["normalization"]
    both = plan(dataset_of(channels=["PET", "CT"], modality="PET/CT"))
    assert [channel.normalization for channel in both.channels] == ["percentile", "ct"]


def test_pictures_are_windowed_already() -> None:
    grey = dataset_of(channels=["grey"], ending=".png", modality="CT")
    assert plan(grey, minimum=0, maximum=255).channels[0].normalization == "rgb"
    assert plan(grey, minimum=0, maximum=40000).channels[0].normalization == "ct"
    colour = dataset_of(channels=["R", "G", "B"], ending=".tif")
    assert {channel.normalization for channel in plan(colour, maximum=255).channels} == {"rgb"}
    assert {channel.normalization for channel in plan(colour, maximum=4095).channels} == {"percentile"}
    not_colours = dataset_of(channels=["T1", "T2", "B"])
    assert {channel.normalization for channel in plan(not_colours, maximum=255).channels} == {"percentile"}


def test_normalization_can_be_set() -> None:
    assert plan(overrides=PlanConfig(normalization="ct")).channels[0].normalization == "ct"
    assert plan(dataset_of(channels=["CT"]), overrides=PlanConfig(normalization="none")).channels[0].low is None
    with pytest.raises(DataError, match=r"no intensity window.*plan.normalization=percentile"):
        plan(dataset_of(channels=["CT"]), low=7.0, high=7.0)


def test_two_channels_of_one_name() -> None:
    dataset = dataset_of(channels=["MR", "MR"])
    decided = plan(dataset, channels=["MR (channel 0)", "MR (channel 1)"])
    assert [channel.name for channel in decided.channels] == ["MR", "MR"]


def test_labels_are_numbered_in_value_order() -> None:
    decided = plan(dataset_of(labels={"spleen": 9, "liver": 2, "left kidney": 5}))
    assert decided.labels == {"liver": 1, "left kidney": 2, "spleen": 3}
    assert decided.file_values == {1: 2, 2: 5, 3: 9}
    assert "2, 5, 9" in decided.reasons["labels"]
    assert decided.class_names == ("liver", "left kidney", "spleen")
    assert not decided.binary
    assert plan(dataset_of(labels={"lung": 1})).binary


def test_class_prompts_come_from_the_dataset_else_from_the_names() -> None:
    dataset = dataset_of(
        labels={"kidney_right": 1, "tumour": 2},
        class_prompts={"kidney_right": "kidney_right", "tumour": "an enhancing tumour"},
    )
    assert plan(dataset).class_prompts == {"kidney_right": "right kidney", "tumour": "an enhancing tumour"}


@pytest.mark.parametrize(
    ("labels", "axis", "mirror"),
    [
        (["liver", "spleen"], 2, ("horizontal",)),
        (["kidney_left", "kidney_right"], 2, ()),
        (["Left Lung"], 2, ()),
        (["lung_l", "lung_r"], 2, ()),
        (["lung_l"], 2, ("horizontal",)),
        (["kidney_left", "kidney_right"], 0, ("horizontal",)),
        (["hippocampus_anterior", "hippocampus_posterior"], 0, ()),
        (["Anterior", "Posterior"], 2, ("horizontal",)),
        (["inferior_vena_cava", "aorta"], 1, ("horizontal",)),
    ],
)
def test_mirroring_follows_the_names(labels: list[str], axis: int, mirror: tuple[str, ...]) -> None:
    decided = plan(
        dataset_of(labels={name: value for value, name in enumerate(labels, 1)}),
        overrides=PlanConfig(slice_axis="xyz"[axis]),  # type: ignore[arg-type]
    )
    assert decided.mirror_axes == mirror
    for direction in ("horizontal", "vertical"):
        assert f"{direction} {'on' if direction in mirror else 'off'}" in decided.reasons["mirror_axes"]


def on(*labels: str, axis: str = "z") -> Plan:
    dataset = dataset_of(labels={name: value for value, name in enumerate(labels, 1)})
    return plan(dataset, overrides=PlanConfig(mirror="on", slice_axis=axis))  # type: ignore[arg-type]


def test_mirroring_that_is_wanted_swaps_the_sides() -> None:
    kidneys = on("kidney_left", "liver", "kidneyRight", "lung r", "lung_L")
    assert kidneys.mirror_axes == ("horizontal", "vertical")
    assert kidneys.mirror_swaps == {"horizontal": ((1, 3), (4, 5))}
    assert "horizontal: kidney_left and kidneyRight, lung r and lung_L" in kidneys.reasons["mirror_swaps"]
    ends = on("Anterior", "Posterior", "artery_left", "artery_right")
    assert ends.mirror_swaps == {"horizontal": ((3, 4),), "vertical": ((1, 2),)}
    assert on("lobe_upper_left", "lobe_lower_left", "lobe_upper_right", "lobe_lower_right").mirror_swaps == {
        "horizontal": ((1, 3), (2, 4))
    }
    assert on("kidney_left", "kidney_right", axis="x").mirror_swaps == {}
    for none in (on("liver", "lung_l"), plan(overrides=PlanConfig(mirror="off"))):
        assert none.mirror_swaps == {}
        assert "mirror_swaps" not in none.reasons
    for auto in (dataset_of(labels={"kidney_left": 1, "kidney_right": 2}), MR):
        assert plan(auto).mirror_swaps == {}


def test_a_side_without_the_other_cannot_be_mirrored() -> None:
    with pytest.raises(ConfigError, match=r"class without its other side in lung_left.*plan\.mirror=auto"):
        on("lung_left", "liver")
    with pytest.raises(ProblemList) as error:
        on("lung_left", "liver", "spine_right", "kidney_left", "kidney_right")
    assert [problem.where for problem in error.value.problems] == ["lung_left", "spine_right"]
    with pytest.raises(ConfigError, match="in kidney_right"):  # two left kidneys: which would the right one become?
        on("kidney_left", "Kidney Left", "kidney_right")


def test_volumes_are_mirrored_where_no_class_is_sided() -> None:
    def decided(*labels: str, mirror: str = "auto") -> Plan:
        dataset = dataset_of(labels={name: value for value, name in enumerate(labels, 1)})
        return plan(dataset, card=VOLUMES, overrides=PlanConfig(mirror=mirror))  # type: ignore[arg-type]

    assert decided("liver").mirror_axes == ("x", "y", "z")
    ends = decided("Anterior", "Posterior")
    assert ends.mirror_axes == ("x", "z")
    assert "y off: 'Anterior' tells front-back" in ends.reasons["mirror_axes"]
    assert "z on: no class tells up-down" in ends.reasons["mirror_axes"]
    wanted = decided("kidney_left", "kidney_right", mirror="on")
    assert wanted.mirror_axes == ("x", "y", "z")
    assert wanted.mirror_swaps == {"x": ((1, 2),)}
    assert decided("liver", mirror="off").mirror_axes == ()


@pytest.mark.parametrize(
    ("dataset", "window", "words"),
    [
        (dataset_of(channels=["T1"]), (None, None), "mean 0 and deviation 1 over the voxels above 0: "),
        (dataset_of(channels=["CT"]), (-1000.0, 1000.0), "clipping to -1000 to 1000 (its name contains 'ct')"),
        (dataset_of(channels=["scan"], modality="CT"), (-1000.0, 1000.0), "(the dataset's modality is 'CT')"),
    ],
)
def test_volumes_are_standardised(dataset: Dataset, window: tuple[float | None, float | None], words: str) -> None:
    decided = plan(dataset, card=VOLUMES)
    assert [channel.normalization for channel in decided.channels] == ["zscore"]
    assert (decided.channels[0].low, decided.channels[0].high) == window
    assert words in decided.reasons["normalization"]
    other = plan(dataset, card=VOLUMES, overrides=PlanConfig(normalization="percentile"))
    assert other.channels[0].normalization == "percentile"
    assert other.preprocessing_key != decided.preprocessing_key
    assert plan(dataset, card=VOLUMES, overrides=PlanConfig(normalization="zscore")).channels == decided.channels
    with pytest.raises(ConfigError, match="for 3D methods"):
        plan(dataset, overrides=PlanConfig(normalization="zscore"))


def test_colour_pictures_have_no_up() -> None:
    dataset = dataset_of(channels=["R", "G", "B"], ending=".jpg")
    assert plan(dataset, maximum=255, shapes=[(600, 450, 1)]).mirror_axes == ("horizontal", "vertical")
    assert plan(dataset, maximum=255, overrides=PlanConfig(mirror="off")).mirror_axes == ()
    assert plan(overrides=PlanConfig(mirror="on")).mirror_axes == ("horizontal", "vertical")


def test_neighbouring_slices_where_there_are_any() -> None:
    wanted = PlanConfig(context_slices=2)
    decided = plan(dataset_of(channels=["T1", "T2"]), overrides=wanted)
    assert (decided.context_slices, decided.input_channels) == (2, 10)
    assert "alone" in plan().reasons["context_slices"]
    for none, why in [
        (plan(overrides=wanted, shapes=[(600, 450, 1)]), "2D"),
        (plan(overrides=wanted, card=VOLUMES), "3D"),
    ]:
        assert (none.context_slices, none.input_channels) == (0, 1)
        assert why in none.reasons["context_slices"]


def test_batch_size_follows_memory_and_data() -> None:
    many = {"shapes": [(512, 512, 200)] * 10, "spacings": [(1.0, 1.0, 5.0)] * 10}
    small, large = plan(memory=4 * GIB, **many), plan(memory=80 * GIB, cuda=True, **many)
    assert small.batch_size == 1
    assert large.batch_size == 16
    assert "80.0 GiB of GPU memory" in large.reasons["batch_size"]
    assert plan(memory=80 * GIB, **many).batch_size == 8
    assert plan(memory=80 * GIB, shapes=[(64, 64, 60)]).batch_size == 3  # 5 % of 60 slices
    assert plan(overrides=PlanConfig(batch_size=11)).batch_size == 11
    windows = {"card": VOLUMES, "shapes": [(200, 200, 200)] * 200, "spacings": [(1.0, 1.0, 1.0)] * 200}
    assert plan(memory=80 * GIB, **windows).batch_size == 2
    assert plan(memory=80 * GIB, cuda=True, **windows).batch_size == 10  # 5 % of one class in each of 200 cases
    assert "5 % of 200 windows" in plan(**windows).reasons["batch_size"]
    assert plan(memory=4 * GIB, **windows).batch_size == 1
    assert plan(memory=4 * GIB, overrides=PlanConfig(input_size=64), **windows).batch_size == 2


def test_experts_follow_the_modalities() -> None:
    assert plan().num_experts == 4
    many = "CT, MR, ultrasound, X-ray, endoscopy and dermoscopy"
    assert modality_names(many) == ("ct", "mr", "ultrasound", "x-ray", "endoscopy", "dermoscopy")
    decided = plan(dataset_of(modality=many))
    assert decided.num_experts == 6
    assert "6 modalities" in decided.reasons["num_experts"]
    assert plan(overrides=PlanConfig(num_experts=2)).num_experts == 2


def test_spacing_of_volume_methods() -> None:
    assert plan().spacing_mm is None
    near = plan(card=VOLUMES, shapes=[(100, 90, 80)] * 3, spacings=[(1.0, 1.0, 1.0), (1.2, 1.2, 2.0), (3.0, 3.0, 2.5)])
    assert near.spacing_mm == (1.2, 1.2, 2.0)
    assert near.input_size == 128
    # 3 times coarser and 3 times shorter: the 10th percentile along z, but never finer than in plane.
    thick = plan(
        card=VOLUMES,
        shapes=[(256, 256, 30)] * 11,
        spacings=[(1.0, 1.0, 2.0 + number * 0.5) for number in range(11)],
    )
    assert thick.spacing_mm == (1.0, 1.0, 2.5)
    assert "10th percentile" in thick.reasons["spacing_mm"]
    finer = plan(card=VOLUMES, shapes=[(256, 256, 30)] * 11, spacings=[(1.0, 1.0, 0.5)] * 5 + [(1.0, 1.0, 5.0)] * 6)
    assert finer.spacing_mm is not None
    assert finer.spacing_mm[2] == pytest.approx(1.00001)
    assert plan(card=VOLUMES, overrides=PlanConfig(spacing_mm=(1.5, 1.5, 1.5))).spacing_mm == (1.5, 1.5, 1.5)


def test_every_value_has_a_reason_on_one_line() -> None:
    decided = plan()
    assert set(decided.reasons) == {
        "slice_axis",
        "input_size",
        "spacing_mm",
        "normalization",
        "labels",
        "class_prompts",
        "binary",
        "mirror_axes",
        "batch_size",
        "num_experts",
        "context_slices",
    }
    assert all(reason and "\n" not in reason for reason in decided.reasons.values())
    overridden = plan(
        overrides=PlanConfig(
            input_size=96,
            slice_axis="x",
            normalization="rgb",
            mirror="off",
            batch_size=1,
            num_experts=8,
            context_slices=1,
        )
    )
    assert "set by the preset or --set" in overridden.reasons["context_slices"]
    for key in ("slice_axis", "input_size", "normalization", "mirror_axes", "batch_size", "num_experts"):
        assert "set by the preset or --set" in overridden.reasons[key]


def test_the_preprocessing_key_ignores_what_preprocessing_ignores() -> None:
    base = plan()
    assert plan(overrides=PlanConfig(context_slices=2)).preprocessing_key == base.preprocessing_key
    assert plan(overrides=PlanConfig(batch_size=9, mirror="off")).preprocessing_key == base.preprocessing_key
    assert plan(overrides=PlanConfig(input_size=96)).preprocessing_key != base.preprocessing_key
