"""Releases are told apart by their names, say who may use them, and can be read in worker processes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.data.converters.detect import survey_source
from medmoe_cli.core.data.converters.registry import FORMATS, recognise
from medmoe_cli.core.data.converters.source import ConvertOptions
from tests.tools.sources import make_imed361m, make_msd, make_nnunet_v1, make_ssl4mis
from tests.tools.sources_abdomen import make_amos, make_btcv, make_segthor, make_word
from tests.tools.sources_chaos import make_chaos
from tests.tools.sources_hearts import make_acdc, make_mmwhs
from tests.tools.sources_sam_med3d import make_collection
from tests.tools.sources_synapse import make_synapse

RELEASES: dict[str, Callable[[Path], Path]] = {
    "acdc": make_acdc,
    "amos": make_amos,
    "btcv": make_btcv,
    "chaos": partial(make_chaos, ids=(1,), test_ids=(4,)),
    "mmwhs": make_mmwhs,
    "segthor": make_segthor,
    "synapse-transunet": partial(make_synapse, scheme="samed", training=(5,), tests=(1,)),
    "word": make_word,
}
OTHERS: dict[str, Callable[[Path], Path]] = {
    "imed361m": make_imed361m,
    "msd": make_msd,
    "nnunet": make_nnunet_v1,
    "sam-med3d": make_collection,
    "ssl4mis-h5": make_ssl4mis,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "chaos": {"subset": ("t1",)},
    "synapse-transunet": {"label_scheme": "samed"},
}


@pytest.mark.parametrize("name", [*RELEASES, *OTHERS])
def test_each_layout_is_known_for_what_it_is(tmp_path: Path, name: str) -> None:
    source = {**RELEASES, **OTHERS}[name](tmp_path / "source")
    assert recognise(source) == name
    for other in RELEASES:
        if other != name:
            options = ConvertOptions(**OPTIONS.get(other, {}))
            with pytest.raises(DataError, match=f"not a source of format {other}.*looks like {name}"):
                survey_source(source, other, options, workers=1, reporter=Silent())


@pytest.mark.parametrize("name", RELEASES)
def test_loaders_cross_to_worker_processes(tmp_path: Path, name: str) -> None:
    source = RELEASES[name](tmp_path / "source")
    survey = survey_source(source, name, ConvertOptions(**OPTIONS.get(name, {})), workers=1, reporter=Silent())
    assert [case.id for case in survey.cases] == sorted({case.id for case in survey.cases}) or name == "chaos"
    case = next(case for case in survey.cases if case.split == "Tr")
    here, there = case.load(), pickle.loads(pickle.dumps(case.load))()
    assert here.label is not None
    assert np.array_equal(here.label, there.label)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(here.images, there.images, strict=True))
    assert all(path.exists() for one in survey.cases for path in one.files)


@pytest.mark.parametrize("name", RELEASES)
def test_each_release_says_who_may_use_it(name: str) -> None:
    known = FORMATS[name]
    assert all((known.description, known.modality, known.classes, known.licence, known.obtain, known.signs))
