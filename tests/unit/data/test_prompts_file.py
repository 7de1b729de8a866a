"""The prompts file: its contract, its coordinates, and the place of every problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmoe_cli.core.base.errors import DataError, ProblemList
from medmoe_cli.core.data.prompts_file import PromptsFile, read_prompts
from medmoe_cli.core.imaging.geometry import Geometry

GRID = Geometry.plain((20, 16, 10), (0.5, 0.5, 2.0))
LABELS = {"liver": 1, "spleen": 2}


def prompts(entries: list[dict[str, Any]], space: str = "voxel") -> PromptsFile:
    return PromptsFile.model_validate({"schema": 1, "space": space, "axes": "xyz", "cases": {"a": entries}})


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(content))
    return path


def lines_of(caught: pytest.ExceptionInfo[BaseException]) -> list[str]:
    error = caught.value
    assert isinstance(error, DataError | ProblemList)
    assert error.exit_code == 3
    return [problem.line() for problem in getattr(error, "problems", [error])]


def test_the_contract(tmp_path: Path) -> None:
    entry = {"label": "liver", "points": [[3, 4, 5, 1], [0, 0, 0, 0]], "box": [1, 2, 3, 4, 5, 6], "text": "the liver"}
    path = written(tmp_path, {"schema": 1, "space": "voxel", "axes": "xyz", "cases": {"a": [entry]}})
    (found,) = read_prompts(path).for_case("a", GRID, LABELS)
    assert (found.label, found.value, found.text) == ("liver", 1, "the liver")
    assert found.points_N4.tolist() == [[3, 4, 5, 1], [0, 0, 0, 0]]
    assert found.box_6 is not None
    # First and last voxel are in the box: its faces are half a voxel outside their centres.
    assert found.box_6.tolist() == [0.5, 1.5, 2.5, 4.5, 5.5, 6.5]


def test_text_alone_names_the_class() -> None:
    (found,) = prompts([{"text": "spleen"}]).for_case("a", GRID, LABELS)
    assert (found.label, found.value, found.points_N4.shape, found.box_6) == ("spleen", 2, (0, 4), None)


def test_without_known_labels_there_is_no_value() -> None:
    (found,) = prompts([{"label": "anything", "points": [[1, 1, 1, 1]]}]).for_case("a", GRID, {})
    assert found.value is None


def test_pictures_may_leave_z_out() -> None:
    flat = Geometry.plain((30, 20, 1))
    (found,) = prompts([{"label": "liver", "points": [[29, 3, 1]], "box": [0, 1, 29, 19]}]).for_case("a", flat, LABELS)
    assert found.points_N4.tolist() == [[29, 3, 0, 1]]
    assert found.box_6 is not None
    assert found.box_6.tolist() == [-0.5, 0.5, -0.5, 29.5, 19.5, 0.5]
    with pytest.raises(ProblemList) as caught:
        prompts([{"label": "liver", "points": [[2, 3, 1]], "box": [0, 1, 5, 6]}]).for_case("a", GRID, LABELS)
    assert all("no z" in line for line in lines_of(caught))


@given(
    seed=st.integers(0, 2**20),
    first=st.tuples(st.integers(0, 9), st.integers(0, 7), st.integers(0, 4)),
    size=st.tuples(st.integers(0, 9), st.integers(0, 7), st.integers(0, 4)),
)
def test_mm_and_voxel_agree_on_any_axis_aligned_grid(seed: int, first: tuple[int, ...], size: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    turned = np.eye(3)[:, random.permutation(3)] * random.choice([-1, 1], 3) * random.uniform(0.3, 4, 3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, random.uniform(-200, 200, 3)
    grid = Geometry(shape=(20, 16, 10), affine=affine)
    last = np.array(first) + size
    voxel = {"label": "liver", "points": [[*first, 1]], "box": [*first, *last.tolist()]}
    place = grid.to_mm(np.array([first]))[0].tolist()
    corners = grid.to_mm(np.array([np.array(first) - 0.5, last + 0.5]))
    mm = {"label": "liver", "points": [[*place, 1]], "box": [*corners[0].tolist(), *corners[1].tolist()]}
    (one,) = prompts([voxel]).for_case("a", grid, LABELS)
    (other,) = prompts([mm], "mm").for_case("a", grid, LABELS)
    assert np.allclose(one.points_N4, other.points_N4, atol=1e-6)
    assert one.box_6 is not None
    assert other.box_6 is not None
    assert np.allclose(one.box_6, other.box_6, atol=1e-6)


def test_a_box_in_mm_may_hang_over_the_edge_but_not_lie_outside() -> None:
    low, high = GRID.to_mm(np.array([[-8.0, 2, 2], [5.0, 6, 7]])).tolist()
    (found,) = prompts([{"label": "liver", "box": [*low, *high]}], "mm").for_case("a", GRID, LABELS)
    assert found.box_6 is not None
    assert np.allclose(found.box_6, [-0.5, 2, 2, 5, 6, 7])
    low, high = GRID.to_mm(np.array([[-8.0, 2, 2], [-5.0, 6, 7]])).tolist()
    with pytest.raises(DataError) as caught:
        prompts([{"label": "liver", "box": [*low, *high]}], "mm").for_case("a", GRID, LABELS)
    assert "outside the image of 20x16x10 voxels" in lines_of(caught)[0]


def test_every_prompt_problem_at_once() -> None:
    bad = [
        {"label": "livr", "points": [[20, 1, 1, 1], [1, 1, 1, 1]]},
        {"label": "liver", "box": [5, 5, 5, 4, 6, 6]},
        {"label": "liver", "box": [0, 0, 0, 20, 15, 9]},
    ]
    with pytest.raises(ProblemList) as caught:
        prompts(bad).for_case("a", GRID, LABELS)
    joined = "\n".join(lines_of(caught))
    assert "did you mean 'liver'?" in joined
    assert "points[0] [20, 1, 1] is outside the image of 20x16x10 voxels" in joined
    assert "ends before it begins" in joined
    assert "box 0, 0, 0, 20, 15, 9 (voxel) is outside" in joined
    assert "$.cases.a[2]" in joined


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(DataError) as caught:
        prompts([{"text": "liver"}]).for_case("b", GRID, LABELS)
    assert "no prompts for case 'b'" in lines_of(caught)[0]


def test_every_file_problem_has_its_place(tmp_path: Path) -> None:
    content = {
        "schema": 2,
        "space": "cm",
        "axis": "xyz",
        "cases": {
            "a": [{"lable": "liver", "points": [[1, 2], [1, 2, 3, 0.5]], "box": [1, 2, 3]}, {"label": "liver"}],
            "b": [{"points": [[1, 2, 3, 1]]}],
        },
    }
    with pytest.raises(ProblemList) as caught:
        read_prompts(written(tmp_path, content))
    joined = "\n".join(lines_of(caught))
    for part in (
        "$.schema:",
        "$.space:",
        "$.axis: unknown key. fix: did you mean 'axes'?",
        "$.cases.a[0].lable: unknown key. fix: did you mean 'label'?",
        "$.cases.a[0].points[0]: 2 numbers",
        "$.cases.a[0].points[1]: it ends with 0.5",
        "$.cases.a[0].box: 3 numbers",
        "$.cases.a[1]: neither points nor box nor text",
        "$.cases.b[0]: neither label nor text",
    ):
        assert part in joined, part


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": 1, "space": "mm", "cases": {"a": [{"text": "x", "box": [NaN]}]}}']
)
def test_what_is_no_prompts_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises((DataError, ProblemList)) as caught:
        read_prompts(path)
    assert str(path) in lines_of(caught)[0]
