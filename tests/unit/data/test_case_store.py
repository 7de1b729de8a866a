"""Stored cases: written whole, read sample by sample, damage noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data import store as case_store
from medmoe_cli.core.data.store import CaseRecord, Store, Stored, Writing

SHAPE = (5, 2, 24, 32)


def write(store: Store, *, case: str = "a", key: str = "k", seed: int = 0) -> tuple[CaseRecord, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    images = random.random(SHAPE).astype(np.float16).astype(np.float32)
    labels = random.integers(0, 300, (SHAPE[0], *SHAPE[2:]))
    writing = Writing(case=case, key=key, shape=SHAPE, valid_shape=(20, 32), spacing_mm=(1.0, 1.0))
    for image, label in zip(images, labels, strict=True):
        writing.add(image, label)
    return store.write(writing), images, labels


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = Store(folder=tmp_path / "store")
    record, images, labels = write(store)
    assert record == store.record("a") == store.finished("a", "k")
    for index in range(SHAPE[0]):
        stored = store.read(record, index)
        assert (stored.image == images[index]).all()
        assert (stored.label == labels[index]).all()
        assert stored.valid[:20].all()
        assert not stored.valid[20:].any()
        values, counts = np.unique(labels[index][labels[index] > 0], return_counts=True)
        assert record.voxels_per_label[index] == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert sorted(path.name for path in store.folder.iterdir()) == ["a.b2nd", "a.case.json"]


def test_equal_cases_give_equal_bytes(tmp_path: Path) -> None:
    one, other = Store(folder=tmp_path / "one"), Store(folder=tmp_path / "other")
    assert write(one)[0].sha256 == write(other)[0].sha256


def test_volumes_are_cut_into_blocks(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    image = np.random.default_rng(0).random((1, 70, 65, 80)).astype(np.float16).astype(np.float32)
    label = (image[0] > 0.5).astype(np.uint8) * 3
    writing = Writing(case="v", key="k", shape=(1, *image.shape), valid_shape=image.shape[1:], spacing_mm=(1, 1, 1))
    writing.add(image, label)
    assert writing.array.chunks == (1, 1, 32, 32, 32)
    stored = store.read(store.write(writing), 0)
    assert (stored.image == image).all()
    assert (stored.label == label).all()
    assert stored.valid.all()


def volume(store: Store, shape: tuple[int, int, int] = (40, 33, 70)) -> tuple[CaseRecord, np.ndarray, np.ndarray]:
    """Two channels and labels 1 and 3; 3 lies in one corner."""
    random = np.random.default_rng(2)
    image = random.random((2, *shape)).astype(np.float16).astype(np.float32)
    label = (random.random(shape) > 0.999).astype(np.uint8)
    label[2:9, 20:31, 60:70] = 3
    writing = Writing(case="v", key="k", shape=(1, *image.shape), valid_shape=shape, spacing_mm=(1, 1, 1))
    writing.add(image, label)
    return store.write(writing), image, label


@pytest.fixture(scope="module")
def kept_volume(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, CaseRecord, np.ndarray, np.ndarray]:
    store = Store(folder=tmp_path_factory.mktemp("store"))
    return (store, *volume(store))


@settings(max_examples=40, deadline=None)
@given(
    start=st.tuples(st.integers(-20, 45), st.integers(-20, 40), st.integers(-20, 75)),
    size=st.tuples(*[st.integers(1, 40)] * 3),
)
def test_a_window_is_a_part_of_the_volume_amid_zeros(
    kept_volume: tuple[Store, CaseRecord, np.ndarray, np.ndarray],
    start: tuple[int, int, int],
    size: tuple[int, int, int],
) -> None:
    store, record, image, label = kept_volume
    reach = 100
    grown = np.pad(image, [(0, 0)] + [(reach, reach)] * 3)
    part = tuple(slice(reach + s, reach + s + n) for s, n in zip(start, size, strict=True))
    window = store.read_window(record, start, size)
    assert (window.image == grown[(slice(None), *part)]).all()
    assert (window.label == np.pad(label, reach)[part]).all()
    assert (window.valid == np.pad(np.ones(label.shape, bool), reach)[part]).all()
    assert window.image.dtype == np.float32


def test_a_window_reads_only_the_chunks_it_touches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(folder=tmp_path)
    record, _, _ = volume(store, (70, 70, 70))
    asked: list[tuple[slice, ...]] = []
    opened = case_store._opened(str(store.file("v")), record.sha256)

    class Watched:
        def __getitem__(self, part: tuple[slice, ...]) -> object:
            asked.append(part)
            return opened[part]

    monkeypatch.setattr(case_store, "_opened", lambda path, sha256: Watched())
    store.read_window(record, (33, 40, 3), (20, 20, 20))
    assert asked == [(slice(0, 1), slice(0, 3), slice(32, 64), slice(32, 64), slice(0, 32))]


def test_a_window_of_a_damaged_chunk_is_refused_and_others_are_not(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record, _, _ = volume(store, (64, 32, 32))
    sums = list(record.chunk_crc32)
    assert len(sums) == 3 * 2
    sums[3] += 1  # of the second channel's second chunk
    wrong = record.model_copy(update={"chunk_crc32": tuple(sums)})
    store.read_window(wrong, (0, 0, 0), (32, 32, 32))
    with pytest.raises(DataError, match="damaged"):
        store.read_window(wrong, (30, 0, 0), (32, 32, 32))


def test_every_flipped_byte_of_a_volume_is_noticed_or_not_read(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record, image, label = volume(store)
    whole = store.file("v").read_bytes()
    noticed = 0
    for position in np.random.default_rng(3).integers(0, len(whole), 25).tolist():
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        store.file("v").write_bytes(bytes(damaged))
        case_store._opened.cache_clear()
        try:
            window = store.read_window(record, (0, 0, 0), label.shape)
        except DataError:
            noticed += 1
        else:
            assert (window.image == image).all()
            assert (window.label == label).all()
    assert noticed >= 20


def test_the_record_says_where_each_label_lies(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record, _, label = volume(store)
    assert record == store.record("v")
    assert set(record.objects) == {1, 3}
    corner = record.objects[3]
    assert (corner.start, corner.stop) == ((2, 20, 60), (9, 31, 70))
    for value, found in record.objects.items():
        assert len(found.anchors) > 1
        assert all(label[anchor] == value for anchor in found.anchors)
    old = record.model_copy(update={"chunk_crc32": ()})
    jsonio.write(store.record_file("v"), old)
    assert store.claimed("v", "k") is None  # of a version that kept no sums of chunks: to be made again


def test_only_these_inputs_count_as_finished(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    write(store)
    assert store.finished("a", "other key") is None
    assert store.finished("b", "k") is None
    store.record_file("a").write_text("{")
    assert store.finished("a", "k") is None


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record, images, labels = write(store)
    whole = store.file("a").read_bytes()
    random = np.random.default_rng(1)
    for position in random.integers(0, len(whole), 60).tolist():
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(random.integers(8))
        store.file("a").write_bytes(damaged)
        case_store._opened.cache_clear()  # as a new process opens it
        assert store.finished("a", "k") is None
        for index in range(SHAPE[0]):
            stored = read_or_none(store, record, index)
            if stored is not None:
                assert (stored.image == images[index]).all()
                assert (stored.label == labels[index]).all()


def read_or_none(store: Store, record: CaseRecord, index: int) -> Stored | None:
    """The sample, or None when the damage was noticed; any other error is the test's failure."""
    try:
        return store.read(record, index)
    except DataError:
        return None


def read_all(store: Store, record: CaseRecord) -> list[Stored]:
    return [store.read(record, index) for index in range(record.num_samples)]


@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, 0.99])
def test_truncated_files_are_noticed(tmp_path: Path, keep: float) -> None:
    store = Store(folder=tmp_path)
    record, _, _ = write(store)
    whole = store.file("a").read_bytes()
    store.file("a").write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    assert store.claimed("a", "k") is None
    with pytest.raises(DataError, match=r"a\.b2nd.*medmoe preprocess"):
        read_all(store, record)
    store.file("a").unlink()
    with pytest.raises(DataError, match="is damaged"):
        store.read(record, 0)


def test_another_cases_file_is_noticed(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record, _, _ = write(store)
    write(store, case="b", seed=5)
    store.file("a").write_bytes(store.file("b").read_bytes())
    with pytest.raises(DataError, match="not what was written"):
        store.read(record, 2)


def test_neighbours_are_read_with_a_sample(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record, images, labels = write(store)
    for index, shown in [(0, (0, 0, 1)), (1, (0, 1, 2)), (2, (0, 1, 2, 2, 2)), (1, (1,))]:
        stored = store.read(record, index, shown=shown)
        assert (stored.image == np.concatenate([images[place] for place in shown])).all()
        assert (stored.label == labels[index]).all()


def test_a_damaged_neighbour_is_noticed_and_a_mended_file_read(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)
    record, images, _ = write(store)
    whole = store.file("a").read_bytes()
    wrong = record.model_copy(update={"crc32": (0, *record.crc32[1:])})
    with pytest.raises(DataError, match="sample 0 is not what was written"):
        store.read(wrong, 1, shown=(0, 1, 2))
    assert (store.read(wrong, 2, shown=(1, 2)).image == np.concatenate(images[1:3])).all()
    store.file("a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is damaged"):
        read_all(store, record)
    store.file("a").write_bytes(whole)
    assert all((stored.image == image).all() for stored, image in zip(read_all(store, record), images, strict=True))
