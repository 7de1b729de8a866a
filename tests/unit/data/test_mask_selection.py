"""Quotas, draws and vetoes: who is kept, and why everybody else is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError, ProblemList
from medmoe_cli.core.data.exclusions import excluded_rows, read_exclusions, unknown_members
from medmoe_cli.core.data.quality_scan import ROW
from medmoe_cli.core.data.selection import (
    KEPT_OF_SMALL,
    KEPT_WHOLE,
    PAPER_FRACTION,
    Group,
    Reason,
    Verdicts,
    judge,
    quotas,
)

NAMES = {1: "organ", 2: "prostate/uterus"}


def table_of(number: int, *, value: int = 1, first_case: int = 0) -> NDArray[Any]:
    """Masks of one class, each better than the last in every term; ten slices a case."""
    table = np.zeros(number, ROW)
    table["case"] = first_case + np.arange(number) // 10
    table["slice"] = np.arange(number) % 10
    table["value"], table["pixels"], table["regions"] = value, 100, 1
    for name in ("clarity", "contrast", "entropy", "foreground"):
        table[name] = np.linspace(0.1, 0.6, number)
    return table


def cases_of(table: NDArray[Any]) -> list[str]:
    return [f"case_{place:03d}" for place in range(int(table["case"].max()) + 1)]


def judged(table: NDArray[Any], quota: dict[int, int], *, seed: int = 0, excluded: Any = None) -> Verdicts:
    none = np.zeros(len(table), bool)
    return judge(
        table,
        member="hearts",
        cases=cases_of(table),
        names=NAMES,
        quotas=quota,
        excluded=none if excluded is None else excluded,
        seed=seed,
    )


def test_a_quota_is_drawn_from_the_best_one_and_a_half_times_as_many() -> None:
    verdicts = judged(table_of(60), {1: 20})
    chosen = np.flatnonzero(verdicts.reason == Reason.SELECTED)
    assert len(chosen) == 20
    assert chosen.min() >= 30
    assert (verdicts.reason[:30] == Reason.BELOW).all()
    assert (verdicts.reason[30:] == Reason.NOT_DRAWN).sum() == 10
    assert verdicts.rank[-1] == 1
    assert verdicts.rank[0] == 60
    assert verdicts.score[-1] == verdicts.score.max()


def test_draws_repeat_and_follow_the_seed() -> None:
    table = table_of(60)
    first, again, other = (judged(table, {1: 20}, seed=seed).reason for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_classes_are_ranked_among_themselves() -> None:
    small = table_of(10, value=2)
    for name in ("clarity", "contrast", "entropy", "foreground"):
        small[name] /= 100
    verdicts = judged(np.concatenate([table_of(30), small]), {1: 3, 2: 10})
    assert (verdicts.reason[30:] == Reason.SELECTED).all()
    assert verdicts.rank[-1] == 1
    assert verdicts.score[-1] > 0.7


def test_specks_and_whole_pictures_have_no_rank() -> None:
    table = table_of(20)
    table["pixels"][19], table["foreground"][18] = 9, 0.96
    verdicts = judged(table, {1: 20})
    assert verdicts.reason[19] == Reason.TINY
    assert verdicts.reason[18] == Reason.WHOLE
    assert np.isnan(verdicts.score[18:]).all()
    assert (verdicts.rank[18:] == 0).all()
    assert (verdicts.reason[:18] == Reason.SELECTED).all()


def test_the_excluded_keep_their_rank_and_make_room_for_the_next() -> None:
    table = table_of(30)
    excluded = np.zeros(30, bool)
    excluded[-5:] = True
    free, vetoed = judged(table, {1: 20}), judged(table, {1: 20}, excluded=excluded)
    assert np.array_equal(free.rank, vetoed.rank)
    assert np.array_equal(free.score, vetoed.score)
    assert (vetoed.reason[-5:] == Reason.EXCLUDED).all()
    assert (vetoed.reason == Reason.SELECTED).sum() == 20


def test_other_cases_do_not_change_a_masks_number() -> None:
    """Drawn from pools that hold all: the quota's lowest numbers, which belong to the mask alone."""
    table = table_of(30)
    more = np.concatenate([table, table_of(30, value=2, first_case=3)])
    alone = judged(table, {1: 20}).reason
    assert np.array_equal(judged(more, {1: 20, 2: 5}).reason[:30], alone)


sizes = st.dictionaries(
    st.builds(Group, st.sampled_from(["a", "b", "c"]), st.integers(1, 9)), st.integers(1, 500), min_size=1
)


@given(sizes, st.data())
def test_so_many_masks_are_exactly_so_many(found: dict[Group, int], data: st.DataObject) -> None:
    total = sum(found.values())
    masks = data.draw(st.integers(1, total))
    kept = quotas(found, masks=masks)
    assert sum(kept.values()) == masks
    assert all(0 <= kept[group] <= found[group] for group in found)
    if masks >= len(found):
        assert min(kept.values()) >= 1
    shares = {group: masks * size / total for group, size in found.items()}
    if all(share >= 1 for share in shares.values()):
        assert all(abs(kept[group] - share) < 1 for group, share in shares.items())


@given(sizes, st.floats(0.001, 1))
def test_a_fraction_is_the_same_of_every_class(found: dict[Group, int], fraction: float) -> None:
    kept = quotas(found, fraction=fraction)
    assert all(1 <= kept[group] <= found[group] for group in found)
    assert all(kept[group] - fraction * size < 1 + 1e-6 for group, size in found.items())


def test_by_default_small_classes_are_hardly_cut() -> None:
    groups = {Group("a", 1): 1, Group("a", 2): 30, Group("a", 3): 60, Group("a", 4): 1000, Group("a", 5): 100_000}
    assert list(quotas(groups).values()) == [1, KEPT_WHOLE, 30, KEPT_OF_SMALL, round(PAPER_FRACTION * 100_000)]


def test_more_masks_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match="51 masks are more than there are"):
        quotas({Group("a", 1): 50}, masks=51)


def veto(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "veto.txt"
    path.write_text("\n".join(lines))
    return path


def test_a_veto_reaches_cases_slices_and_classes(tmp_path: Path) -> None:
    table = np.concatenate([table_of(20), table_of(20, value=2)])
    path = veto(
        tmp_path,
        "# by H. M.",
        "",
        "hearts/case_000  # blurred",
        "hearts/case_001/3",
        "hearts/case_001/4/prostate/uterus",
    )
    rows, problems = excluded_rows(
        read_exclusions(path), table, member="hearts", cases=cases_of(table), names=NAMES, path=path
    )
    hit = table[rows]
    assert not problems
    assert {(int(row["case"]), int(row["slice"]), int(row["value"])) for row in hit if row["case"] == 1} == {
        (1, 3, 1),
        (1, 3, 2),
        (1, 4, 2),
    }
    assert (hit["case"] == 0).sum() == 20
    assert not excluded_rows(read_exclusions(path), table, member="lungs", cases=[], names={}, path=path)[0].any()


def test_lines_that_name_nothing_are_reported_together(tmp_path: Path) -> None:
    table = table_of(20)
    path = veto(
        tmp_path,
        "heart/case_000",
        "hearts/case_01",
        "hearts/case_000/77",
        "hearts/case_000/1/organs",
        "hearts/case_000",
    )
    exclusions = read_exclusions(path)
    _, problems = excluded_rows(exclusions, table, member="hearts", cases=cases_of(table), names=NAMES, path=path)
    found = [problem.line() for problem in (*unknown_members(exclusions, ["hearts"], path), *problems)]
    assert len(found) == 4
    for line, (text, number) in zip(
        found,
        [("'heart'", 1), ("did you mean 'case_001'", 2), ("slice '77'", 3), ("did you mean 'organ'", 4)],
        strict=True,
    ):
        assert text in line
        assert f"veto.txt:{number}" in line


def test_lines_of_another_form_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ProblemList) as caught:
        read_exclusions(veto(tmp_path, "hearts", "hearts/case_000/top", "hearts/case_000", "hearts//3"))
    assert [problem.what for problem in caught.value.problems] == [
        "line 1 is no exclusion",
        "line 2 is no exclusion",
        "line 4 is no exclusion",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the exclusions"):
        read_exclusions(tmp_path / "none.txt")
