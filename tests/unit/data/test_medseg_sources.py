"""The paper's twelve: each is recognised under the names people give it, and look-alikes are not."""

from __future__ import annotations

import pytest

from medmoe_cli.core.data.converters.registry import FORMATS
from medmoe_cli.core.data.medseg_sources import BY_KEY, PAPER_SOURCES, missing_sources, recognise_source


def test_there_are_twelve_and_each_recognises_itself() -> None:
    assert len(PAPER_SOURCES) == len(BY_KEY) == 12
    for source in PAPER_SOURCES:
        assert recognise_source(source.key, {}) is source


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("Dataset005_BTCV", {}, "btcv"),
        ("ISIC2018", {}, "isic-2018"),
        ("skin", {"converted_by": "medmoe 1.0 from isic", "reference": "ISIC challenge 2017, task 1"}, "isic-2017"),
        ("isic", {}, None),
        ("amos", {"modality": {"0": "CT"}}, "amos-ct"),
        ("amos22", {"channel_names": {"0": "MRI"}}, "amos-mr"),
        ("amos", {}, None),
        ("totalseg", {"modality": "CT"}, "totalsegmentator-ct"),
        ("totalseg_mr", {"modality": "MR"}, None),
        ("Shenzhen", {}, "sz-cxr"),
        ("chaos", {"channel_names": {"0": "T2SPIR"}}, "chaos-t2"),
        ("chaos_T1", {}, "chaos-t1"),
        ("WORD-V0.1.0", {}, "word"),
        ("keywords", {}, None),
        ("acdc", {"converted_by": "medmoe 1.0 from ssl4mis-h5"}, "acdc"),
        ("hippocampus", {"modality": "MRI"}, None),
    ],
)
def test_names_in_the_wild(name: str, content: dict[str, object], key: str | None) -> None:
    found = recognise_source(name, content)
    assert (found.key if found is not None else None) == key


def test_every_command_names_a_format_that_says_where_to_get_the_data() -> None:
    for source in PAPER_SOURCES:
        assert source.format in FORMATS, source.key
        assert source.obtain, source.key
        assert source.licence, source.key
        assert not source.subset or "subset" in FORMATS[source.format].options


def test_what_is_missing_is_the_rest() -> None:
    present = [BY_KEY["btcv"], BY_KEY["acdc"]]
    missing = missing_sources(present)
    assert len(missing) == 10
    assert all(source in PAPER_SOURCES and source not in present for source in missing)
