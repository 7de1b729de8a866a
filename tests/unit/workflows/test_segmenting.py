from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError, DataError, GeometryError
from medmoe_cli.core.data.prepare import Prepared, prepare
from medmoe_cli.core.data.prompts_file import PromptsFile
from medmoe_cli.core.imaging.read import read_image
from medmoe_cli.core.imaging.write import write_labels
from medmoe_cli.core.workflows.predicting.case_output import file_labels
from medmoe_cli.core.workflows.predicting.requests import FromClassNames, FromFile, FromMasks, FromNothing
from medmoe_cli.core.workflows.predicting.scans import find_scans, read_scan
from medmoe_cli.core.workflows.predicting.segmenting import Answered, segment
from medmoe_cli.core.workflows.predicting.slice_prompts import prompts_by_slice
from medmoe_cli.core.workflows.scoring.statistics import structure_statistics
from tests.tools.datasets import write_nifti, write_picture
from tests.tools.oracle import Oracle, oracle_inference, oracle_plan

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])


def two_blocks() -> NDArray[np.float32]:
    """Two bright blocks in a 40x32x8 volume: 'a' in slices 2..5, 'b' in 3..6."""
    volume = np.zeros((40, 32, 8), np.float32)
    volume[6:16, 8:20, 2:6] = 1
    volume[24:34, 10:24, 3:7] = 1
    return volume


def prepared_blocks(tmp_path: Path, labels: dict[str, int], affine: NDArray[np.float64] = AFFINE) -> Prepared:
    write_nifti(tmp_path / "scan.nii.gz", two_blocks(), affine)
    return prepare(read_image(tmp_path / "scan.nii.gz"), oracle_plan(labels=labels))


def prompts(entries: list[dict[str, object]], space: str = "voxel") -> PromptsFile:
    return PromptsFile.model_validate({"schema": 1, "space": space, "axes": "xyz", "cases": {"scan": entries}})


BOX_A, BOX_B = [6, 8, 2, 15, 19, 5], [24, 10, 3, 33, 23, 6]


@pytest.mark.parametrize("space", ["voxel", "mm"])
def test_volume_boxes_become_the_two_structures(tmp_path: Path, space: str) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1, "b": 2})
    boxes = {"a": np.array(BOX_A, float), "b": np.array(BOX_B, float)}
    if space == "mm":
        for name, box in boxes.items():
            faces = np.stack([box[:3] - 0.5, box[3:] + 0.5])
            boxes[name] = prepared.image.geometry.to_mm(faces).reshape(6)
    file = prompts([{"label": name, "box": box.tolist()} for name, box in boxes.items()], space)
    requests = FromFile(file, prepared.plan).requests("scan", prepared)
    assert sorted((r.slice_index, r.value) for r in requests) == [(k, 1) for k in range(2, 6)][:1] + sorted(
        [(k, v) for k in range(3, 6) for v in (1, 2)]
    ) + [(6, 2)]
    result = segment(prepared, requests, oracle_inference(), threshold=0.5)
    volume = prepared.to_file_grid(result.labels_SHW)
    expected = np.zeros_like(volume)
    expected[6:16, 8:20, 2:6] = 1
    expected[24:34, 10:24, 3:7] = 2
    # The network's grid is finer than the scan's: edges may move by a fraction of a voxel, not by one.
    assert (volume == expected).mean() > 0.99
    assert set(np.unique(volume).tolist()) == {0, 1, 2}


def test_a_point_in_a_volume_is_followed_through_its_structure(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1, "b": 2})
    file = prompts([{"label": "b", "points": [[28, 16, 4, 1]]}])
    result = segment(
        prepared, FromFile(file, prepared.plan).requests("scan", prepared), oracle_inference(), threshold=0.5
    )
    volume = prepared.to_file_grid(result.labels_SHW)
    assert sorted(np.unique(np.nonzero(volume == 2)[2]).tolist()) == [3, 4, 5, 6]
    assert not (volume == 1).any()
    assert not volume[:20].any()


def test_class_names_are_asked_on_every_slice_and_nothing_once_per_slice(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1, "b": 2})
    assert len(FromClassNames(prepared.plan, ()).requests("scan", prepared)) == 16
    only_b = FromClassNames(prepared.plan, ("b",)).requests("scan", prepared)
    assert {(request.value, request.prompt.class_index) for request in only_b} == {(2, 1)}
    assert len(FromNothing(value=1).requests("scan", prepared)) == 8
    with pytest.raises(ConfigError, match="unknown class 'c'"):
        FromClassNames(prepared.plan, ("c",))


def test_masks_give_tight_boxes_and_correction_clicks(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1, "b": 2})
    (tmp_path / "masks").mkdir()
    labels = np.zeros((40, 32, 8), np.uint8)
    labels[6:16, 8:20, 2:6] = 1
    write_nifti(tmp_path / "masks" / "scan.nii.gz", labels, AFFINE)
    source = FromMasks(tmp_path / "masks", prepared.plan, kind="point", clicks=3, mask_size=(16, 16))
    requests = source.requests("scan", prepared)
    assert [(request.slice_index, request.value, request.rounds) for request in requests] == [
        (k, 1, 2) for k in range(2, 6)
    ]
    seen: list[Answered] = []
    result = segment(prepared, requests, oracle_inference(), threshold=0.5, listen=seen.append)
    assert (prepared.to_file_grid(result.labels_SHW) == labels).mean() > 0.99
    assert len(seen) == 4
    assert seen[0].probability.shape == (32, 40)


def test_masks_of_another_grid_are_refused(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1})
    shifted = AFFINE.copy()
    shifted[0, 3] = 50
    write_nifti(tmp_path / "masks" / "scan.nii.gz", np.ones((40, 32, 8), np.uint8), shifted)
    source = FromMasks(tmp_path / "masks", prepared.plan, kind="box", clicks=0, mask_size=(16, 16))
    with pytest.raises(GeometryError, match="origin shifted by 50 mm"):
        source.requests("scan", prepared)


def test_overlaps_go_to_the_more_probable_class_and_probabilities_are_kept(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1, "b": 2})
    box = {"box": [0, 0, 4, 39, 31, 4]}
    file = prompts([{"label": "a", **box}, {"label": "b", **box}])
    store = np.zeros((2, 8, 32, 40), np.float16)
    result = segment(
        prepared,
        FromFile(file, prepared.plan).requests("scan", prepared),
        oracle_inference(),
        threshold=0.5,
        probabilities=store,
    )
    # Equal probabilities: the first asked keeps the pixel, whatever the order of writing.
    assert set(np.unique(result.labels_SHW).tolist()) == {0, 1}
    assert store[0, 4].max() > 0.9
    np.testing.assert_array_equal(store[0], store[1])


def test_each_slice_is_encoded_once_and_alone_on_the_cpu(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1, "b": 2})
    inference = oracle_inference()
    segment(prepared, FromClassNames(prepared.plan, ()).requests("scan", prepared), inference, threshold=0.5)
    assert isinstance(inference.segmenter, Oracle)
    assert inference.segmenter.encoded == [1] * 8


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_masks_come_back_to_where_the_scan_is(tmp_path: Path, seed: int, slice_axis: int) -> None:
    """Random axis orders and flips, oblique: same shape, affine, codes and units, and the voxels of the structure."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(3)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * rng.choice([-1, 1], 3) * [1.5, 1.5, 1.5]
    angle = 0.2 * rng.standard_normal()
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    volume = np.zeros((32, 32, 32), np.float32)
    volume[4:20, 9:17, 12:30] = 1
    image = nib.Nifti1Image(volume, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    prepared = prepare(scan, oracle_plan(input_size=32, slice_axis=slice_axis))
    result = segment(prepared, FromNothing(value=1).requests("scan", prepared), oracle_inference(), threshold=0.5)
    write_labels(tmp_path / "mask.nii.gz", np.ascontiguousarray(prepared.to_file_grid(result.labels_SHW)), scan)
    mask = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), volume > 0.5)
    np.testing.assert_array_equal(mask.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    assert int(mask.header["qform_code"]) == 1
    assert int(mask.header["sform_code"]) == 2
    assert mask.header.get_xyzt_units() == ("mm", "sec")


def test_thin_boxes_and_points_find_their_slice(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1})
    file = prompts([{"label": "a", "box": [6, 8, 3, 15, 19, 3], "points": [[7, 9, 3, 1], [30, 20, 3, 0]]}])
    (prompt,) = file.for_case("scan", prepared.image.geometry, prepared.plan.labels)
    places = prompts_by_slice(prompt, prepared)
    assert list(places) == [3]
    assert places[3].points_N3[:, 2].tolist() == [1, 0]
    assert places[3].box_4 is not None
    scale = prepared.fit.scale_xy * 2
    np.testing.assert_allclose(places[3].box_4, np.array([6, 8, 16, 20]) * scale)


def test_statistics_are_in_ml_and_mm(tmp_path: Path) -> None:
    scan = prepared_blocks(tmp_path, {"a": 1}).image
    labels = np.zeros((40, 32, 8), np.uint8)
    labels[6:16, 8:20, 2:6] = 1
    labels[0:2, 0:2, 0] = 2
    found = structure_statistics(labels, scan.data[0], scan.geometry, {"a": 1, "edge": 2, "absent": 3})
    assert found["a"].num_voxels == 480
    assert found["a"].volume_ml == pytest.approx(480 * 16 / 1000)
    assert found["a"].intensity_mean == pytest.approx(1)
    assert found["a"].centroid_mm == pytest.approx((-2 * 10.5, -2 * 13.5, 4 * 3.5))
    assert found["a"].box_vox == (6, 8, 2, 15, 19, 5)
    assert not found["a"].touches_border
    assert found["edge"].touches_border
    assert found["absent"].num_voxels == 0
    assert found["absent"].intensity_mean is None


def test_channel_suffixes_group_files_and_grey_pictures_fit(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (10, 12), dtype=np.uint8)
    write_picture(tmp_path / "one_0000.png", grey)
    write_picture(tmp_path / "two.png", np.repeat(grey[..., None], 3, axis=2))
    cases = find_scans(tmp_path, num_channels=1)
    assert [case.id for case in cases] == ["one", "two"]
    one, two = (read_scan(case, num_channels=1) for case in cases)
    np.testing.assert_array_equal(one.data, two.data)
    assert read_scan(cases[0], num_channels=3).data.shape[0] == 3
    write_picture(tmp_path / "three_0001.png", grey)
    with pytest.raises(DataError, match="wrong channels of case 'three'"):
        find_scans(tmp_path, num_channels=2)


def test_masks_carry_the_values_of_the_datasets_own_label_maps(tmp_path: Path) -> None:
    prepared = prepared_blocks(tmp_path, {"a": 1, "b": 2})
    gaps = prepare(prepared.image, prepared.plan.model_copy(update={"file_labels": {"a": 3, "b": 300}}))
    labels = np.zeros((40, 32, 8), np.uint16)
    labels[6:16, 8:20, 2:6] = 3
    labels[24:34, 10:24, 3:7] = 300
    write_nifti(tmp_path / "masks" / "scan.nii.gz", labels, AFFINE)
    source = FromMasks(tmp_path / "masks", gaps.plan, kind="box", clicks=0, mask_size=(16, 16))
    result = segment(gaps, source.requests("scan", gaps), oracle_inference(), threshold=0.5)
    assert (file_labels(gaps, result) == labels).mean() > 0.99
    labels[0, 0, 0] = 7
    write_nifti(tmp_path / "masks" / "scan.nii.gz", labels, AFFINE)
    with pytest.raises(DataError, match="unexpected label values"):
        source.requests("scan", gaps)
