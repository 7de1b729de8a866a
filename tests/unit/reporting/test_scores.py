from __future__ import annotations

import json
from pathlib import Path

import pytest

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.reporting import numbers
from medmoe_cli.core.reporting.page import Picture, Table, Text
from medmoe_cli.core.reporting.palette import EXTRA, MISSED, MIXED_UP, class_colours
from medmoe_cli.core.reporting.scores import case_table, headline, score_blocks, ways_table
from medmoe_cli.core.reporting.summary_file import PromptingRead, read_prompting, read_summary
from tests.tools.reports import made_summary

SUMMARY = made_summary({"left_kidney": [0.9, 0.8, 0.7], "gallbladder": [0.6, 0.0, None]})


def test_the_headline_says_how_good_over_what() -> None:
    text = headline(SUMMARY)
    assert text.startswith("Mean Dice 0.600 (0.000 to 0.900) over 2 structures in 3 validation cases")
    assert "4.0 mm" in text
    assert "1 of 5 structures missed altogether" in text


def test_the_table_has_a_row_per_class_with_intervals_counts_and_its_colour() -> None:
    colours = {"left_kidney": "#0072B2", "gallbladder": "#D55E00"}
    table = next(block for block in score_blocks(SUMMARY, colours) if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["left kidney", "gallbladder", "all structures"]
    assert table.rows[0][1:] == ("0.800\n(0.700 to 0.900)", "2.0\n(1.0 to 3.0)", "3 of 3", "0", "0")
    assert table.rows[1][1:] == ("0.300\n(0.000 to 0.600)", "7.0\n(4.0 to 10.0)", "2 of 3", "1", "0")
    assert table.swatches == ("#0072B2", "#D55E00", "")
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_missed_structure_is_said_and_so_is_a_model_that_finds_nothing() -> None:
    (warning,) = (block for block in score_blocks(SUMMARY, {}) if isinstance(block, Text))
    assert "gallbladder (1 of 3 cases)" in warning.text
    assert "kidney" not in warning.text
    nothing = made_summary({"a": [0.0, 0.0]}, hd95={"a": [None, None]})
    blocks = score_blocks(nothing, {})
    assert any(isinstance(block, Text) and "finds nothing" in block.text for block in blocks)
    assert [block.name for block in blocks if isinstance(block, Picture)] == ["cases-dice"]


@pytest.mark.parametrize("cases", [1, 4, 30])
def test_plots_are_drawn_for_any_number_of_cases_and_told_in_words(cases: int) -> None:
    summary = made_summary({"a": [0.5 + 0.01 * case for case in range(cases)], "b": [None] * cases})
    pictures = [block for block in score_blocks(summary, {"a": "#0072B2"}) if isinstance(block, Picture)]
    assert [picture.name for picture in pictures] == ["cases-dice", "cases-hd95"]
    assert "b: no value" in pictures[0].alt
    assert ("box holds" in pictures[0].caption) == (cases >= 5)


def test_cases_stand_from_the_worst_to_the_best() -> None:
    table = case_table(SUMMARY)
    assert [row[:2] for row in table.rows] == [("case_1", "0.400"), ("case_2", "0.700"), ("case_0", "0.750")]
    assert table.rows[0][3] == "missed"
    assert table.rows[1][3] == "–"


def test_ways_of_asking_stand_beside_the_baseline() -> None:
    prompting = PromptingRead.model_validate(
        {
            "masks_prompted_by": "box",
            "ways": [
                {"way": "box", "mean_dice": 0.9, "dice_per_class": {"a_b": 0.91}, "num_instances": 7},
                {"way": "ellipse", "mean_dice": 0.94, "dice_per_class": {"a_b": 0.95}, "num_instances": 7},
            ],
        }
    )
    table = ways_table(prompting)
    assert table.columns[:2] == ("Structure", "a box around it")
    assert "no network" in table.columns[2]
    assert table.rows == (("a b", "0.910", "0.950"), ("mean over instances", "0.900", "0.940"))
    assert "7 instances" in table.note


@pytest.mark.parametrize(("reader", "content"), [(read_summary, {"n_cases": 3}), (read_prompting, ["box"])])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, reader: object, content: object) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"file\.json"):
        reader(path)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.ratio(None), "–"),
        (numbers.ratio(0.84249), "0.842"),
        (numbers.millimetres(0.456), "0.46"),
        (numbers.millimetres(12.34), "12.3"),
        (numbers.signed(-0.04, 1), "0.0"),
        (numbers.signed(-1.26, 1), "−1.3"),
        (numbers.signed(2.0, 0), "+2"),
        (str(numbers.volume_digits([0.02, -0.3])), "3"),
        (str(numbers.volume_digits([0.02, -30.0])), "1"),
        (numbers.percent(0.256), "26 %"),
        (numbers.duration(52.4), "52 s"),
        (numbers.duration(515), "9 min"),
        (numbers.duration(9000), "2.5 h"),
        (numbers.count(1, "case"), "1 case"),
        (numbers.count(1200, "case"), "1,200 cases"),
        (numbers.listed(["a", "b", "c"], limit=2), "a, b and 1 more"),
    ],
)
def test_numbers_have_few_digits(text: str, expected: str) -> None:
    assert text == expected


def test_classes_keep_their_colours_whatever_is_shown() -> None:
    colours = class_colours(range(1, 14))
    assert len(set(colours.values())) == 13
    assert colours == class_colours(reversed(range(1, 14)))
    assert not {MISSED, EXTRA, MIXED_UP} & set(class_colours(range(1, 17)).values())
