from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.reporting.curves import draw_progress, read_log
from medmoe_cli.core.reporting.page import Text
from medmoe_cli.core.reporting.training import training_blocks


def record(
    kind: str, step: int, *, dice: float | None = None, routing: bool = True, stage: str = "experts"
) -> dict[str, object]:
    line: dict[str, object] = {
        "kind": kind,
        "step": step,
        "epoch": step // 10,
        "stage": stage,
        "losses": {"loss": 1 / step, "dice": 0.5 / step, "aux_balance": 0.01, "grad_norm": 3.0},
        "lr": 1e-3 / step,
        "routing": {"layer1": [0.25, 0.75]} if routing else {},
        "machine": {"seconds": float(step)},
    }
    if kind == "epoch":
        validation = {"score": dice, "dice": {"box": dice, "point": 0.5}, "by_class": {"box": {"1": dice, "2": 0.2}}}
        line |= {"validation": validation if dice is not None else None, "best": dice is not None}
    return line


def draw(folder: Path, records: list[dict[str, object]], tail: str = "") -> Path:
    log = folder / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in records) + tail)
    return draw_progress(log, folder / "progress.png", title="liver/segmote/run-001", class_names={1: "liver"})


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record("step", 10)],
        [record("epoch", 10, dice=None, routing=False)],
        [record("step", 10), record("epoch", 10, dice=0.4), record("step", 20), record("epoch", 20, dice=0.6)],
    ],
)
def test_any_stage_of_a_run_can_be_drawn(tmp_path: Path, records: list[dict[str, object]]) -> None:
    with Picture.open(draw(tmp_path, records)) as picture:
        assert picture.size == (1200, 750)
        assert np.asarray(picture.convert("L")).std() > 5
    assert [path.name for path in tmp_path.glob(".tmp-*")] == []


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path, [record("step", 10)], tail='{"kind": "ep')
    curves = read_log(tmp_path / "log.jsonl")
    assert (len(curves.steps), len(curves.epochs)) == (1, 0)


def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "epo\n' + json.dumps(record("step", 10)) + "\n")
    with pytest.raises(DataError, match="line 1"):
        read_log(tmp_path / "log.jsonl")


def test_the_curves_show_the_numbers(tmp_path: Path) -> None:
    low = [record("epoch", 10, dice=0.1), record("epoch", 20, dice=0.1)]
    high = [record("epoch", 10, dice=0.9), record("epoch", 20, dice=0.9)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pictures = [np.asarray(Picture.open(draw(tmp_path / name, lines))) for name, lines in (("a", low), ("b", high))]
    blue = np.array([0x00, 0x72, 0xB2])
    rows = []
    for picture in pictures:
        shown = np.abs(picture[40:360, 420:800, :3].astype(int) - blue).max(axis=2) < 12
        rows.append(int(shown.sum(axis=1).argmax()))  # the line of the curve, longer than its mark in the legend
    assert rows[1] < rows[0] - 100  # higher on the page


def test_stages_are_told_apart_by_shade_and_name(tmp_path: Path) -> None:
    lines = [record("epoch", 10, dice=0.2), record("epoch", 20, dice=0.4), record("epoch", 30, dice=0.5)]
    two = [*lines[:2], record("epoch", 30, dice=0.5, stage="calibrate")]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    shades = []
    for name, records in (("one", lines), ("two", two)):
        picture = np.asarray(Picture.open(draw(tmp_path / name, records)).convert("L"))
        # Losses: the right part of the panel, between the curves.
        shades.append(int(np.isin(picture[60:340, :400], range(236, 244)).sum()))
    assert shades[1] > shades[0] + 2000
    curves = read_log(tmp_path / "two" / "log.jsonl")
    assert [(span.name, span.step, span.epoch) for span in curves.stages] == [("experts", 20, 2), ("calibrate", 30, 3)]
    text = " ".join(block.text for block in training_blocks(curves) if isinstance(block, Text))
    assert "in 2 stages (shaded in turn): 'experts' to step 20, 'calibrate' to step 30" in text
    one = " ".join(
        block.text for block in training_blocks(read_log(tmp_path / "one" / "log.jsonl")) if isinstance(block, Text)
    )
    assert "stage" not in one


def test_the_experts_variety_is_drawn_where_it_can_change(tmp_path: Path) -> None:
    def names(*shares: list[float]) -> set[str]:
        records = [
            {**record("epoch", 10 * n, dice=0.3), "routing": {"layer1": share}} for n, share in enumerate(shares, 1)
        ]
        draw(tmp_path, records)
        blocks = training_blocks(read_log(tmp_path / "log.jsonl"))
        return {block.name for block in blocks if hasattr(block, "name")}

    assert "training-experts" in names([0.5, 0.5], [0.9, 0.1])
    assert "training-experts" not in names([0.5, 0.5], [0.5, 0.5])  # each works alike by construction
    assert "training-experts" not in names([0.9, 0.1])


def test_a_score_that_counts_absent_names_is_said_in_its_parts(tmp_path: Path) -> None:
    line = record("epoch", 10, dice=0.4)
    line["validation"] = {"score": 0.65, "dice": {"text": 0.4, "absent": 0.9}, "by_class": {"text": {"1": 0.4}}}
    draw(tmp_path, [line])
    blocks = training_blocks(read_log(tmp_path / "log.jsonl"))
    story = " ".join(block.text for block in blocks if isinstance(block, Text))
    assert "mean Dice 0.400; 90 % of the names of absent structures left empty" in story
    assert "0.650" not in story
