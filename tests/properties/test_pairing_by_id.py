"""Pairing of images and labels: whatever the order and the suffix, ids find each other and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from medmoe_cli.core.data.converters.pairing import LABEL_SUFFIXES, Unit, pair

IDS = st.lists(st.from_regex(r"[a-z]{1,3}(_[0-9]{1,3}){0,2}", fullmatch=True), min_size=1, max_size=8, unique=True)


@given(
    ids=IDS,
    suffix=st.sampled_from(["", *LABEL_SUFFIXES]),
    given_suffix=st.booleans(),
    channels=st.integers(1, 3),
    lonely=st.sets(st.integers(0, 7)),
    shuffled=st.randoms(use_true_random=False),
)
def test_every_file_is_paired_or_named(
    ids: list[str], suffix: str, given_suffix: bool, channels: int, lonely: set[int], shuffled: object
) -> None:
    images = [
        Unit(path=Path(f"i/{name}_{channel:04d}.nii.gz"), stem=f"{name}_{channel:04d}")
        for name in ids
        for channel in range(channels)
    ]
    labels = [
        Unit(path=Path(f"l/{name}{suffix}.nii.gz"), stem=f"{name}{suffix}")
        for position, name in enumerate(ids)
        if position not in lonely
    ]
    shuffled.shuffle(images)  # type: ignore[attr-defined]
    shuffled.shuffle(labels)  # type: ignore[attr-defined]
    found = pair(images, labels, image_suffixes=(), label_suffix=suffix if given_suffix and suffix else None)
    expected = {name for position, name in enumerate(ids) if position not in lonely}
    assert {one.id for one in found.pairs} == expected
    assert len(found.problems) == len(ids) - len(expected)
    for one in found.pairs:
        assert [path.name for path in one.images] == [f"{one.id}_{channel:04d}.nii.gz" for channel in range(channels)]
        assert one.labels[0][1].name == f"{one.id}{suffix}.nii.gz"


@given(ids=st.lists(st.integers(1, 9999), min_size=1, max_size=6, unique=True))
def test_numbers_that_belong_to_the_id_stay(ids: list[int]) -> None:
    """amos_0507 is a case, not channel 507; even amos_0000, when a label of that name is there."""
    names = [f"amos_{number:04d}" for number in ids]
    units = [Unit(path=Path(f"i/{name}.nii.gz"), stem=name) for name in names]
    labels = [Unit(path=Path(f"l/{name}.nii.gz"), stem=name) for name in names]
    found = pair(units, labels, image_suffixes=(), label_suffix=None)
    assert [one.id for one in found.pairs] == sorted(names)
    assert found.problems == ()
