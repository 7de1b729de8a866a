"""Which slices a fold trains on and is validated on, by the method's task and the preset's wish."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from medmoe_cli.core.config.sections import AugmentConfig, TrainConfig
from medmoe_cli.core.data.splits import Split
from medmoe_cli.core.data.store import Store, Writing
from medmoe_cli.core.workflows.samples.slices import slice_sources
from tests.tools.plans import slice_plan

SIZE = 16


@pytest.mark.parametrize(
    ("task", "empty_slices", "trained", "validated"),
    [
        ("automatic", None, (10, 6), (10, 6)),
        ("automatic", 0.0, (4, 0), (10, 6)),
        ("automatic", 0.5, (6, 2), (10, 6)),
        ("prompted", None, (4, 0), (4, 0)),
        ("prompted", 1.0, (8, 4), (4, 0)),
    ],
)
def test_empty_slices(
    tmp_path: Path,
    task: Literal["automatic", "prompted"],
    empty_slices: float | None,
    trained: tuple[int, int],
    validated: tuple[int, int],
) -> None:
    store, records = Store(folder=tmp_path), {}
    for case in "ab":
        writing = Writing(
            case=case, key="k", shape=(10, 1, SIZE, SIZE), valid_shape=(SIZE, SIZE), spacing_mm=(1.0, 1.0)
        )
        for index in range(10):
            writing.add(np.zeros((1, SIZE, SIZE), np.float32), np.full((SIZE, SIZE), int(3 <= index < 7)))
        records[case] = store.write(writing)
    found = slice_sources(
        store=store,
        records=records,
        cases=Split(train=("a",), validation=("b",)),
        plan=slice_plan(input_size=SIZE),
        train=TrainConfig(empty_slices=empty_slices),
        augment=AugmentConfig(),
        task=task,
    )
    assert (len(found.train), found.train.num_empty) == trained
    assert (len(found.validation), found.validation.num_empty) == validated
    assert {found.train.key(index)[0] for index in range(len(found.train))} == {"a"}
    assert f"{trained[0]} slices to train on, {trained[1]} of them without" in found.line
