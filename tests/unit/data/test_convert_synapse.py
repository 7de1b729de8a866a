"""Synapse as npz slices and h5 volumes; only the layout is that of the release, the torsos are made."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters.detect import survey_source
from medmoe_cli.core.data.converters.registry import recognise
from medmoe_cli.core.data.converters.source import ConvertOptions
from medmoe_cli.core.data.converters.synapse_directions import PARTLY, SEEN, TURNED, Organs, directions
from medmoe_cli.core.data.converters.synapse_transunet import _TEST, _TRAINING, EIGHT_BITS, OTHER_RANGE, SCHEMES
from tests.tools.converting import convert, dataset_json, names
from tests.tools.sources import nifti_array
from tests.tools.sources_synapse import SHAPE, TO_SCHEME, coded, make_synapse, torso

SPACING = (0.75, 0.75, 3.0)
BTCV = SCHEMES["btcv13"].organs


@pytest.mark.parametrize("scheme", ["transunet", "samed", "btcv13"])
def test_layout_in_either_order(tmp_path: Path, scheme: str) -> None:
    source = make_synapse(tmp_path / "Synapse", scheme)
    assert recognise(source) == "synapse-transunet"  # not ssl4mis-h5, which reads any h5
    result = convert(tmp_path, source, "synapse-transunet", label_scheme=scheme, spacing_mm=SPACING)
    root = result.written.root
    assert names(root / "labelsTr") == ["case0005.nii.gz", "case0006.nii.gz"]
    assert names(root / "labelsTs") == ["case0001.nii.gz"]
    for split, number in (("Tr", 6), ("Ts", 1)):
        image, label = torso(number)
        written = nib.load(root / f"images{split}" / f"case{number:04d}_0000.nii.gz")
        assert np.array_equal(np.asanyarray(written.dataobj), image)
        assert nib.aff2axcodes(written.affine) == ("L", "P", "S")
        assert np.allclose(written.header.get_zooms(), SPACING)
        assert np.array_equal(nifti_array(root / f"labels{split}" / f"case{number:04d}.nii.gz"), coded(label, scheme))
    assert f"{SEEN} (3 cases)" in result.written.notes
    assert not [note for note in result.written.notes if TURNED in note or EIGHT_BITS in note]
    labels = dataset_json(result)["labels"]
    from medmoe_cli.core.data.converters.btcv import CLASSES

    by_value = {value: name for name, value in CLASSES.items()}
    assert {by_value[source]: target for source, target in TO_SCHEME[scheme].items()}.items() <= labels.items()


def test_layout_needs_its_scheme_named(tmp_path: Path) -> None:
    source = make_synapse(tmp_path / "Synapse", "transunet", training=(5,), tests=())
    with pytest.raises(ConfigError, match=r"two orders.*--label-scheme transunet, samed"):
        convert(tmp_path, source, "synapse-transunet")
    with pytest.raises(ConfigError, match="did you mean 'samed'"):
        convert(tmp_path, source, "synapse-transunet", label_scheme="sammed")
    assert convert(tmp_path, source, "synapse-transunet", label_scheme="TransUNet").written.training == 1


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ("samed", "transunet"),
        ("transunet", "samed"),
        ("transunet", "btcv13"),
        ("btcv13", "transunet"),
        ("btcv13", "samed"),
    ],
)
def test_layout_with_a_wrong_scheme_is_refused(tmp_path: Path, files: str, named: str) -> None:
    source = make_synapse(tmp_path / "Synapse", files)
    with pytest.raises(DataError, match="labels of another order"):
        convert(tmp_path, source, "synapse-transunet", label_scheme=named)


def test_layout_value_above_eight_fails_its_case(tmp_path: Path) -> None:
    source = make_synapse(tmp_path / "Synapse", "transunet")
    path = source / "train_npz" / "case0006_slice003.npz"
    with np.load(path) as archive:
        image, label = archive["image"], archive["label"]
    label[0, 0] = 9
    np.savez(path, image=image, label=label)
    (failed,) = convert(tmp_path, source, "synapse-transunet", label_scheme="transunet").written.failed
    assert failed.what == "case0006"
    assert "9" in failed.why


def test_layout_without_spacing_says_so(tmp_path: Path) -> None:
    source = make_synapse(tmp_path / "Synapse", "transunet", eight_bits=True)
    found = convert(tmp_path, source, "synapse-transunet", label_scheme="transunet").written
    assert any(note.startswith("voxel size 1x1x1 mm") for note in found.notes)
    assert f"{EIGHT_BITS} (3 cases)" in found.notes
    assert any("case0005 has 12 of 117" in note for note in found.notes)
    assert np.allclose(nib.load(found.root / "imagesTr" / "case0005_0000.nii.gz").header.get_zooms(), 1)


def test_layout_faults(tmp_path: Path) -> None:
    source = make_synapse(tmp_path / "Synapse", "transunet", training=(5, 6, 7), tests=(1,))
    slices = source / "train_npz"
    (slices / "case0005_slice004.npz").unlink()
    (slices / "case0006_slice002.npz").write_bytes(b"PK\3\4 no more")
    np.savez(slices / "case0011_slice000.npz", image=np.zeros((4, 4)), label=np.zeros((4, 4)))
    with h5py.File(source / "test_vol_h5" / "case0007.npy.h5", "w") as file:
        file["image"], file["label"] = (
            torso(7)[0].transpose(2, 0, 1) * 400 - 125,
            coded(torso(7)[1], "transunet").transpose(2, 0, 1),
        )
    np.savez(slices / "case0007_slice000.npz", objects=np.array([{}], dtype=object))  # never read: the volume is there
    written = convert(tmp_path, source, "synapse-transunet", label_scheme="transunet").written
    why = {one.what: one.why for one in written.failed}
    assert "slices are missing" in why["case0005"]
    assert "[4]" in why["case0005"]
    assert "damaged npz" in why["case0006"]
    assert {one.what: one.why for one in written.skipped} == {
        "case0011_slice000.npz": "no case of the release's 18 and 12",
        "slices of case0007": "their volumes are there too",
    }
    assert f"{OTHER_RANGE} (1 cases)" in written.notes
    (source / "more").mkdir()
    (source / "more" / "case0005_slice000.npz").write_bytes((slices / "case0005_slice000.npz").read_bytes())
    with pytest.raises(DataError, match="two files of one name"):
        survey_source(source, "synapse-transunet", ConvertOptions(label_scheme="samed"), workers=1, reporter=Silent())


def test_official_split_is_18_and_12() -> None:
    assert (len(_TRAINING), sum(_TRAINING.values()), len(_TEST)) == (18, 2211, 12)
    assert not set(_TRAINING) & set(_TEST)
    assert {*_TRAINING, *_TEST} == {*range(1, 11), *range(21, 41)}


@pytest.mark.parametrize("flips", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("upright", [False, True])
def test_directions_follow_the_organs(flips: tuple[int, ...], upright: bool) -> None:
    _, label = torso(3)
    flipped = np.flip(label, flips)
    packed = flipped.transpose(2, 1, 0) if upright else flipped.transpose(2, 0, 1)
    found = directions(packed, BTCV, documented_x_axis=1)
    assert (found.to_left, found.to_back, found.to_head) == tuple(axis not in flips for axis in range(3))
    assert found.notes == ((SEEN, TURNED) if upright else (SEEN,))
    assert np.array_equal(found.volume(packed), flipped)
    signs = np.sign(np.diag(found.geometry(SHAPE, SPACING).affine)[:3])
    assert signs.tolist() == [(1 if axis in flips else -1) * (1 if axis < 2 else -1) for axis in range(3)]


def test_directions_without_organs_are_the_documented_ones() -> None:
    _, label = torso(3)
    only = np.where(label == 6, label, 0).transpose(2, 1, 0)
    found = directions(only, Organs(liver=6, spleen=1, kidneys=(2, 3)), documented_x_axis=2)
    assert (found.x_axis, found.to_left, found.to_back, found.to_head) == (2, True, True, True)
    assert found.notes == (PARTLY,)
