"""ConcatSource: names, numbers and owners of joined sources, and owners seen about equally."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.data.concat_source import ConcatSource, SourcePart
from medmoe_cli.core.imaging.sample import Sample
from tests.tools.tiny_segmenter import DiscSource


def apart(offset: int) -> dict[int, int]:
    """Two label values, this far from their own."""
    return {1: 1 + offset, 2: 2 + offset}


def joined(*sizes: tuple[int, int], balanced: bool = False) -> ConcatSource:
    """Sources of `size` samples for `owner`, label values 10 apart."""
    parts = [
        SourcePart(name=f"set{place}", source=DiscSource(size, seed=place), owner=owner, values=apart(10 * place))
        for place, (size, owner) in enumerate(sizes)
    ]
    return ConcatSource(parts, balanced=balanced)


def all_of(source: ConcatSource, *, seed: int | None = None) -> list[Sample]:
    return [source.load(index, seed=seed) for index in range(len(source))]


def test_samples_carry_their_dataset_its_owner_and_its_own_labels() -> None:
    source = joined((3, 0), (2, 2))
    keys = [source.key(index) for index in range(len(source))]
    assert keys == ["set0/case_000:0", "set0/case_000:1", "set0/case_001:0", "set1/case_000:0", "set1/case_000:1"]
    alone = DiscSource(2, seed=1)
    for index, sample in enumerate(all_of(source)):
        own = alone.load(index - 3, seed=None) if index >= 3 else None
        assert sample.owner == (2 if index >= 3 else 0)
        assert sample.case_id == keys[index].partition(":")[0]
        assert sample.label is not None
        assert set(np.unique(sample.label)) <= {0, *source.classes(index)}
        if own is not None:
            assert own.label is not None
            assert ((sample.label == 12) == (own.label == 2)).all()
            assert (sample.image == own.image).all()
    assert source.classes(0) == (1, 2)
    assert source.classes(4) == (11, 12)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=5))
def test_balanced_owners_are_seen_equally_and_every_sample_is(sizes: list[tuple[int, int]]) -> None:
    source = joined(*sizes, balanced=True)
    samples = all_of(source)
    most = max(sum(size for size, owner in sizes if owner == one) for _, one in sizes)
    assert set(Counter(sample.owner for sample in samples).values()) == {most}
    names = [source.key(index) for index in range(len(source))]
    assert set(names) == {joined(*sizes).key(index) for index in range(len(joined(*sizes)))}
    assert len({(name, sample.copy) for name, sample in zip(names, samples, strict=True)}) == len(source)
    times = Counter(names)
    for name, sample in zip(names, samples, strict=True):
        of_owner = [times[other] for other, one in zip(names, samples, strict=True) if one.owner == sample.owner]
        assert max(of_owner) - times[name] <= 1


def test_copies_are_augmented_anew() -> None:
    source = joined((4, 0), (1, 1), balanced=True)
    copies = [sample for sample in all_of(source, seed=5) if sample.owner == 1]
    assert [sample.copy for sample in copies] == [0, 1, 2, 3]
    assert len({sample.image.tobytes() for sample in copies}) == 4
    again = [sample for sample in all_of(source, seed=5) if sample.owner == 1]
    assert all((one.image == other.image).all() for one, other in zip(copies, again, strict=True))


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    part = SourcePart(name="same", source=DiscSource(1))
    with pytest.raises(ValueError, match="one name"):
        ConcatSource([part, part])


def test_many_classes_do_not_overflow() -> None:
    source = ConcatSource([SourcePart(name="far", source=DiscSource(1), values=apart(300))])
    label = source.load(0, seed=None).label
    assert label is not None
    assert label.max() == 302
    assert source.classes(0) == (301, 302)
