"""Volumes there and back: windows, prompts and answers of a network that says what the volume shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.prompts_file import PromptsFile
from medmoe_cli.core.data.volume_scan import VolumeScan, prepare_scan
from medmoe_cli.core.engine.inference import Answer
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.imaging.write import write_labels
from medmoe_cli.core.nn.prompts import Click, QueryPrompt
from medmoe_cli.core.nn.segmenter import Features, Output, Prompts
from medmoe_cli.core.workflows.predicting.case_output import file_labels, preview_rows
from medmoe_cli.core.workflows.predicting.requests import FromClassNames, FromFile, FromMasks, FromNothing
from medmoe_cli.core.workflows.predicting.segmented import Answered
from medmoe_cli.core.workflows.predicting.segmenting import segment, segment_together
from medmoe_cli.core.workflows.predicting.volume_marks import marks_by_slice
from medmoe_cli.core.workflows.predicting.volume_requests import VolumeRequest, requests_of_labels
from medmoe_cli.core.workflows.predicting.volume_segmenting import VolumeMember
from tests.tools.datasets import write_nifti
from tests.tools.volume_oracle import VolumeOracle, oracle_volume_plan, volume_inference

PLAIN = np.diag([-1.5, -1.5, 1.5, 1.0])
CODES = ("qform_code", "sform_code", "xyzt_units")


def scan_of(folder: Path, volume: NDArray[np.generic], plan: Plan, affine: NDArray[np.float64] = PLAIN) -> VolumeScan:
    write_nifti(folder / "scan.nii.gz", volume.astype(np.float32), affine)
    scan = prepare_scan(read_image(folder / "scan.nii.gz"), plan)
    assert isinstance(scan, VolumeScan)
    return scan


def prompts(*entries: dict[str, object], space: str = "voxel") -> PromptsFile:
    return PromptsFile.model_validate({"schema": 1, "space": space, "axes": "xyz", "cases": {"scan": list(entries)}})


def asked_by(scan: VolumeScan, *entries: dict[str, object], space: str = "voxel") -> tuple[VolumeRequest, ...]:
    return FromFile(prompts(*entries, space=space), scan.plan).volume_requests("scan", scan)


def cubes(shape: tuple[int, int, int], *places: tuple[int, int, int], size: int = 8) -> NDArray[np.uint8]:
    """Label map with cubes 1, 2, ... at these corners."""
    labels = np.zeros(shape, np.uint8)
    for value, (x, y, z) in enumerate(places, start=1):
        labels[x : x + size, y : y + size, z : z + size] = value
    return labels


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def oblique(rng: np.random.Generator, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Axes in any order and direction, turned by some degrees."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3) * spacing
    angle = 0.3 * rng.standard_normal()
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


@pytest.mark.parametrize("slice_axis", [0, 2])
@pytest.mark.parametrize("seed", range(6))
def test_masks_come_back_to_where_the_scan_is(tmp_path: Path, seed: int, slice_axis: int) -> None:
    """Any axis order, direction and tilt: the very voxels, shape, affine, codes and units; windows slide."""
    affine = oblique(np.random.default_rng(seed), (1.5, 1.5, 1.5))
    volume = np.zeros((44, 30, 38), np.float32)
    volume[4:40, 9:20, 12:30] = 1
    image = nib.Nifti1Image(volume, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    prepared = prepare_scan(scan, oracle_volume_plan(slice_axis=slice_axis))
    assert isinstance(prepared, VolumeScan)
    oracle = VolumeOracle()
    asked = FromNothing(value=1).volume_requests("scan", prepared)
    result = segment(prepared, asked, volume_inference(oracle), threshold=0.5)
    assert len(oracle.encoded) == 4
    assert (result.num_requests, result.prompted) == (1, frozenset())
    write_labels(tmp_path / "mask.nii.gz", file_labels(prepared, result), scan)
    mask, before = nib.load(tmp_path / "mask.nii.gz"), nib.load(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), volume > 0.5)
    np.testing.assert_array_equal(mask.affine, before.affine)
    for code in CODES:
        assert mask.header[code] == before.header[code], code


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [((0.7, 0.9, 4.0), (70, 60, 16)), ((3.0, 2.5, 1.0), (20, 24, 60)), ((0.8, 0.8, 0.8), (64,) * 3)],
)
def test_other_voxels_than_the_plans_cost_a_border_and_no_more(
    tmp_path: Path, spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> None:
    affine = oblique(np.random.default_rng(7), spacing)
    grid = (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) + 0.5) * spacing
    middle = np.array(shape) * spacing / 2 + (3, -4, 5)
    volume = np.linalg.norm(grid - middle, axis=-1) < 14
    scan = scan_of(tmp_path, volume, oracle_volume_plan(), affine)
    result = segment(scan, FromNothing(value=1).volume_requests("scan", scan), volume_inference(), threshold=0.5)
    assert dice(file_labels(scan, result) == 1, volume) > 0.97


@pytest.mark.parametrize("seed", range(3))
def test_voxel_and_millimetre_prompts_ask_the_same(tmp_path: Path, seed: int) -> None:
    """Of two equal blocks the prompt chooses one, whatever the file's axes are and whatever it is told in."""
    affine = oblique(np.random.default_rng(seed), (1.2, 1.5, 2.0))
    labels = cubes((50, 40, 30), (4, 5, 6), (36, 26, 16), size=10)
    scan = scan_of(tmp_path, labels > 0, oracle_volume_plan({"a": 1, "b": 2}), affine)
    box, point = np.array([36, 26, 16, 45, 35, 25], float), np.array([8.0, 9.0, 10.0])
    to_mm = scan.image.geometry.to_mm
    corners = np.array([[box[i], box[1 + j], box[2 + k]] for i in (0, 3) for j in (0, 3) for k in (0, 3)])
    voxel = ({"label": "a", "points": [[*point, 1]]}, {"label": "b", "points": [[40, 30, 20, 1]]})
    in_mm = tuple(
        {"label": entry["label"], "points": [[*to_mm(np.array([entry["points"][0][:3]]))[0].tolist(), 1]]}
        for entry in voxel
    )
    found = [
        file_labels(scan, segment(scan, asked_by(scan, *entries, space=space), volume_inference(), threshold=0.5))
        for entries, space in ((voxel, "voxel"), (in_mm, "mm"))
    ]
    np.testing.assert_array_equal(*found)
    for value in (1, 2):
        assert dice(found[0] == value, labels == value) > 0.9
    (request,) = asked_by(scan, {"label": "b", "box": box.tolist()})
    # The faces of the outer voxels, on the network's grid.
    assert request.prompt.box is not None
    native = scan.turn.points_to_canonical(np.array([box[:3] - 0.5, box[3:] + 0.5])) + 0.5
    ratio = np.array(scan.volume.shape) / np.array(scan.turn.target.shape)
    expected = np.stack([native.min(0), native.max(0)]) * ratio
    np.testing.assert_allclose(np.reshape(request.prompt.box, (2, 3)), expected)
    assert to_mm(corners).shape == (8, 3)


def test_a_box_in_millimetres_along_the_worlds_axes_is_the_box_in_voxels(tmp_path: Path) -> None:
    labels = cubes((40, 40, 40), (4, 5, 6))
    scan = scan_of(tmp_path, labels, oracle_volume_plan())
    box = np.array([4, 5, 6, 11, 12, 13], float)
    faces = scan.image.geometry.to_mm(np.stack([box[:3] - 0.5, box[3:] + 0.5]))
    (voxel,) = asked_by(scan, {"label": "organ", "box": box.tolist()})
    (in_mm,) = asked_by(scan, {"label": "organ", "box": faces.ravel().tolist()}, space="mm")
    np.testing.assert_allclose(voxel.prompt.box or (), in_mm.prompt.box or (), atol=1e-4)


@pytest.mark.parametrize(
    ("places", "encoded"),
    [(((4, 4, 4), (14, 14, 14)), [1]), (((4, 4, 4), (50, 50, 50)), [1, 1]), (((4, 4, 4),) * 3, [1])],
)
def test_a_window_is_encoded_once_however_many_structures_are_in_it(
    tmp_path: Path, places: tuple[tuple[int, int, int], ...], encoded: list[int]
) -> None:
    names = {f"s{number}": number for number in range(1, len(places) + 1)}
    labels = cubes((64, 64, 64), *places)
    scan = scan_of(tmp_path, labels > 0, oracle_volume_plan(names))
    entries = [
        {"label": name, "box": [x, y, z, x + 7, y + 7, z + 7]} for name, (x, y, z) in zip(names, places, strict=True)
    ]
    oracle = VolumeOracle()
    result = segment(scan, asked_by(scan, *entries), volume_inference(oracle), threshold=0.5)
    assert oracle.encoded == encoded
    assert sum(len(asked.class_index) for asked in oracle.asked) == len(places)
    assert result.prompted == frozenset(names.values())
    found = file_labels(scan, result)
    if len(set(places)) == len(places):
        np.testing.assert_array_equal(found, labels)
    else:  # equally probable: the first that was asked for has it
        np.testing.assert_array_equal(found > 0, labels > 0)
        assert set(np.unique(found).tolist()) == {0, 1}


def test_ten_structures_by_name_are_asked_in_every_window_and_encode_it_once(tmp_path: Path) -> None:
    names = {f"s{number}": number for number in range(1, 11)}
    labels = np.zeros((48, 32, 32), np.uint8)
    for value in names.values():
        labels[4 * value : 4 * value + 4, 4:28, 4:28] = value
    scan = scan_of(tmp_path, labels / 10, oracle_volume_plan(names))
    oracle = VolumeOracle(num_classes=10)
    result = segment(
        scan, FromClassNames(scan.plan, ()).volume_requests("scan", scan), volume_inference(oracle), threshold=0.5
    )
    assert oracle.encoded == [1, 1]
    assert [len(asked.class_index) for asked in oracle.asked] == [8, 2, 8, 2]
    np.testing.assert_array_equal(file_labels(scan, result), labels)


def test_clicks_are_given_where_the_error_is_and_the_window_is_not_encoded_again(tmp_path: Path) -> None:
    labels = cubes((40, 40, 40), (8, 10, 12), size=16)
    scan = scan_of(tmp_path, labels, oracle_volume_plan())
    oracle = VolumeOracle(reach=8)
    asked = requests_of_labels(scan.label_volume(labels), scan.plan, kind="point", clicks=4)
    assert [(request.rounds, request.prompt.clicks) for request in asked] == [(3, asked[0].prompt.clicks)]
    told: list[Answered] = []
    last: list[Answered] = []
    result = segment(scan, asked, volume_inference(oracle), threshold=0.5, each_round=told.append, listen=last.append)
    assert oracle.encoded == [1]
    assert [len(one.points[0]) for one in oracle.asked] == [1, 2, 3, 4]
    # After the first answer each model is shown its own mask.
    assert [bool(one.has_mask.any()) for one in oracle.asked] == [False, True, True, True]
    assert [(one.round, one.part) for one in told] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    truth = scan.label_slices(labels) == 1
    scores = []
    for one in told:
        mask = np.zeros(truth.shape, bool)
        mask[one.place] = one.probability > 0.5
        scores.append(dice(mask, truth))
    assert all(later > earlier for earlier, later in itertools.pairwise(scores)), scores
    assert [one.round for one in last] == [3]
    np.testing.assert_array_equal(last[0].probability, told[-1].probability)
    assert dice(result.labels_SHW == 1, truth) == scores[-1]


def test_nobody_clicks_beyond_the_volume(tmp_path: Path) -> None:
    """A network that claims everything is mostly wrong beyond a small volume, where there is nothing to click on."""

    class Everything(VolumeOracle):
        def decode(self, features: Features, prompts: Prompts) -> Output:
            output = super().decode(features, prompts)
            return replace(output, logits=torch.full_like(output.logits, 9.0))

    labels = np.zeros((32, 32, 12), np.uint8)
    labels[3:29, 3:29, 2:10] = 1
    scan = scan_of(tmp_path, labels, oracle_volume_plan())
    oracle = Everything()
    asked = requests_of_labels(scan.label_volume(labels), scan.plan, kind="box", clicks=2)
    segment(scan, asked, volume_inference(oracle), threshold=0.5)
    last = oracle.asked[-1]
    assert last.point_labels.tolist() == [[0, 0]]
    # The window hangs over by ten voxels on either side of the twelve that there are.
    assert bool(((last.points[..., 2] > 10) & (last.points[..., 2] < 22)).all())


def test_a_structure_larger_than_a_window_is_clicked_in_the_windows_that_hold_the_click(tmp_path: Path) -> None:
    labels = np.zeros((70, 40, 36), np.uint8)
    labels[4:66, 8:30, 6:30] = 1
    scan = scan_of(tmp_path, labels, oracle_volume_plan())
    oracle = VolumeOracle(reach=13)
    asked = requests_of_labels(scan.label_volume(labels), scan.plan, kind="box", clicks=2)
    told: list[Answered] = []
    segment(scan, asked, volume_inference(oracle), threshold=0.5, each_round=told.append)
    windows = len(oracle.encoded)
    assert windows > 1
    assert oracle.encoded == [1] * windows  # clicks encode nothing
    assert [one.round for one in told] == [0, 1, 2]
    assert len(oracle.asked) == windows  # the box alone was enough: nobody clicks
    holed = labels.copy()
    holed[20:30, 12:26, 10:26] = 0  # the oracle sees a hole that the reference has not
    seen = scan_of(tmp_path / "holed", holed, oracle_volume_plan())
    oracle = VolumeOracle(reach=13)
    told.clear()
    segment(seen, asked, volume_inference(oracle), threshold=0.5, each_round=told.append)
    assert [one.round for one in told] == [0, 1, 2]
    assert len(oracle.encoded) == windows
    clicked = [one for one in oracle.asked if bool((one.point_labels == 1).any())]
    assert 0 < len(clicked) < len(oracle.asked)
    for one in clicked:
        places = one.points[one.point_labels >= 0]
        assert bool(((places >= 0) & (places <= 32)).all())


def test_masks_as_prompts_and_the_cases_own_classes_only(tmp_path: Path) -> None:
    labels = cubes((40, 40, 40), (4, 4, 4), (20, 20, 20))
    (tmp_path / "masks").mkdir()
    write_nifti(tmp_path / "masks" / "scan.nii.gz", labels, PLAIN)
    scan = scan_of(tmp_path, labels > 0, oracle_volume_plan({"a": 1, "b": 2, "c": 3}))
    source = FromMasks(tmp_path / "masks", scan.plan, kind="mask", clicks=0, mask_size=(16, 16, 16))
    asked = source.requests_of("scan", scan)
    assert [(request.value, request.rounds, request.is_prompted) for request in asked] == [  # type: ignore[union-attr]
        (1, 0, True),
        (2, 0, True),
    ]
    oracle = VolumeOracle()
    result = segment(scan, asked, volume_inference(oracle), threshold=0.5)
    assert all(bool(one.has_mask.all()) for one in oracle.asked)
    np.testing.assert_array_equal(file_labels(scan, result), labels)


def test_two_models_are_averaged_in_every_window(tmp_path: Path) -> None:
    labels = cubes((48, 32, 32), (20, 10, 10))

    class Timid(VolumeOracle):
        def decode(self, features: Features, prompts: Prompts) -> Output:
            output = super().decode(features, prompts)
            return replace(output, logits=output.logits * 0)

    scan = scan_of(tmp_path, labels, oracle_volume_plan())
    sure, timid = VolumeOracle(), Timid()
    asked = FromNothing(value=1).volume_requests("scan", scan)
    members = [
        VolumeMember(prepared=scan, requests=asked, inference=volume_inference(oracle)) for oracle in (sure, timid)
    ]
    store = np.zeros((1, *scan.shape_SHW), np.float16)
    segment_together(members, threshold=0.5, probabilities=store)
    found = scan.to_file_grid(store[0])
    np.testing.assert_allclose(found[labels == 1], 0.75, atol=2e-3)
    np.testing.assert_allclose(found[labels == 0], 0.25, atol=2e-3)
    assert sure.encoded == timid.encoded == [1, 1]


def test_overlaps_go_to_the_more_probable_and_the_probabilities_agree_with_the_mask(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    plan = oracle_volume_plan({"a": 1, "b": 2}, spacing=2.0)
    scan = scan_of(tmp_path, rng.random((44, 36, 40)), plan)
    entries = ({"label": "a", "box": [2, 2, 2, 30, 30, 30]}, {"label": "b", "box": [10, 4, 8, 40, 33, 36]})
    store = np.zeros((2, *scan.shape_SHW), np.float16)
    result = segment(scan, asked_by(scan, *entries), volume_inference(), threshold=0.5, probabilities=store)
    expected = np.where(store.max(0) > 0.5, store.argmax(0) + 1, 0)
    np.testing.assert_array_equal(result.labels_SHW, expected)
    assert set(np.unique(result.labels_SHW).tolist()) == {0, 1, 2}


def test_slabs_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    plan = oracle_volume_plan({"a": 1, "b": 2}, spacing=2.0)
    scan = scan_of(tmp_path, rng.random((44, 36, 40)), plan)
    asked = asked_by(scan, {"label": "a", "box": [2, 2, 2, 30, 30, 30]}, {"label": "b", "points": [[20, 20, 20, 1]]})
    told: list[Answered] = []
    whole = segment(scan, asked, volume_inference(), threshold=0.5)
    monkeypatch.setattr("medmoe_cli.core.imaging.slabs.SLAB_VOXELS", 5000)
    thin = segment(scan, asked, volume_inference(), threshold=0.5, listen=told.append)
    np.testing.assert_array_equal(whole.labels_SHW, thin.labels_SHW)
    parts = [one.part for one in told if one.request.value == 1]
    assert parts == list(range(len(parts)))
    assert len(parts) > 3


def test_whoever_watches_sees_the_values_and_the_answer(tmp_path: Path) -> None:
    labels = cubes((40, 40, 40), (4, 4, 4), (14, 14, 14))
    scan = scan_of(tmp_path, labels > 0, oracle_volume_plan({"a": 1, "b": 5}))
    seen: list[tuple[list[int], tuple[int, ...]]] = []

    def watch(values: list[int], answer: Answer) -> None:
        seen.append((values, answer.probabilities.shape))

    entries = ({"label": "b", "box": [14, 14, 14, 21, 21, 21]}, {"label": "a", "box": [4, 4, 4, 11, 11, 11]})
    result = segment(scan, asked_by(scan, *entries), volume_inference(), threshold=0.5, watch=watch)
    assert seen == [([1, 5], (2, 1, 32, 32, 32))]
    assert set(np.unique(result.labels_SHW).tolist()) == {0, 1, 5}


def test_an_interruption_is_heard_between_windows(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_after(count: int) -> Callable[[], None]:
        left = [count]

        def check() -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Stop

        return check

    scan = scan_of(tmp_path, cubes((70, 32, 32), (4, 4, 4)), oracle_volume_plan())
    oracle = VolumeOracle()
    with pytest.raises(Stop):
        segment(
            scan,
            FromNothing(value=1).volume_requests("scan", scan),
            volume_inference(oracle),
            threshold=0.5,
            check=stop_after(2),
        )
    assert len(oracle.encoded) == 2


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_prompts_are_marked_on_the_slices_they_go_through(tmp_path: Path, slice_axis: int) -> None:
    """The marks lie where the prompts' voxels are on the picture of a slice."""
    volume = np.zeros((30, 24, 20), np.float32)
    volume[12, 7, 15] = 1
    volume[3:9, 4:10, 5:11] = 2
    affine = np.diag([1.5, -3.0, 2.0, 1.0])
    scan = scan_of(tmp_path, volume, oracle_volume_plan(slice_axis=slice_axis), affine)
    click = scan.to_volume(np.array([[12.0, 7.0, 15.0]]))[0]
    box = scan.boxes_to_volume(np.array([2.5, 3.5, 4.5, 8.5, 9.5, 10.5]))
    asked = [
        QueryPrompt(clicks=(Click(position=tuple(click.tolist()), foreground=True),)),
        QueryPrompt(box=tuple(box.tolist())),
    ]
    marks = marks_by_slice(asked, scan)
    slices = scan.label_slices(volume)
    (where,) = np.argwhere(slices == 1)
    pointed = [index for index, found in marks.items() if any(one.clicks for one in found)]
    assert pointed == [where[0]]
    (one,) = [one for one in marks[where[0]] if one.clicks]
    assert one.clicks[0].position == pytest.approx((where[2] + 0.5, where[1] + 0.5))
    boxed = {index: one.box for index, found in marks.items() for one in found if one.box is not None}
    inside = np.argwhere(slices == 2)
    assert sorted(boxed) == sorted({int(place[0]) for place in inside})
    low, high = inside.min(0), inside.max(0) + 1
    for edges in boxed.values():
        assert edges == pytest.approx((low[2], low[1], high[2], high[1]))


def test_a_preview_shows_the_fullest_slices_with_their_prompts(tmp_path: Path) -> None:
    labels = cubes((40, 40, 40), (4, 8, 12))
    scan = scan_of(tmp_path, labels, oracle_volume_plan())
    result = segment(
        scan, asked_by(scan, {"label": "organ", "box": [4, 8, 12, 11, 15, 19]}), volume_inference(), threshold=0.5
    )
    rows = preview_rows(scan, result)
    assert rows
    for row in rows:
        assert (row.prediction > 0).any()
        ((x0, y0, x1, y1),) = row.marks.boxes
        ys, xs = np.nonzero(row.prediction)
        assert (x0, y0, x1, y1) == pytest.approx((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
