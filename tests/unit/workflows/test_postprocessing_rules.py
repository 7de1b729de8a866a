from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.config.postprocessing import Postprocessing, PostRule
from medmoe_cli.core.data.dataset import Case
from medmoe_cli.core.workflows.predicting.postprocess import (
    OnePiece,
    RuleTrial,
    apply_rules,
    common_rules,
    one_piece_classes,
)
from medmoe_cli.core.workflows.predicting.segmenting import Segmented
from tests.tools.datasets import write_nifti, write_picture
from tests.tools.oracle import oracle_plan

LARGEST_A = PostRule(label="a", keep="largest", reason="")
LARGEST_B = PostRule(label="b", keep="largest", reason="")
PLAN = oracle_plan(labels={"a": 1, "b": 2})


def volume(*blocks: tuple[int, slice, slice, slice]) -> NDArray[np.uint8]:
    labels = np.zeros((20, 20, 10), np.uint8)
    for value, x, y, z in blocks:
        labels[x, y, z] = value
    return labels


ONE_A = (1, slice(1, 9), slice(1, 9), slice(1, 8))
OTHER_A = (1, slice(15, 19), slice(15, 19), slice(5, 8))
SPECK_A = (1, slice(15, 16), slice(15, 16), slice(8, 9))
ONE_B = (2, slice(10, 13), slice(2, 6), slice(1, 8))


def cases(folder: Path, *labels: NDArray[np.uint8]) -> list[Case]:
    found = []
    for number, label in enumerate(labels):
        path = folder / f"case{number}.nii.gz"
        write_nifti(path, label, np.diag([-1.0, -1.0, 2.0, 1.0]))
        found.append(Case(id=f"case{number}", images=(path,), label=path, patient=f"case{number}"))
    return found


def test_one_piece_means_in_95_of_100_labels_and_specks_do_not_count(tmp_path: Path) -> None:
    single, double = volume(ONE_A, SPECK_A), volume(ONE_A, OTHER_A, ONE_B)
    found = one_piece_classes(cases(tmp_path / "20", *[single] * 19, double), PLAN, Silent())
    assert [(one.label, one.num_single, one.num_labels) for one in found] == [("a", 19, 20), ("b", 1, 1)]
    found = one_piece_classes(cases(tmp_path / "10", *[single] * 9, double), PLAN, Silent())
    assert [one.label for one in found] == ["b"]  # 9 of 10 are too few
    assert one_piece_classes([], PLAN, Silent()) == ()


def test_file_values_are_not_plan_values(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"file_labels": {"a": 7, "b": 3}})
    labels = volume(ONE_A, OTHER_A, ONE_B)
    in_file = np.array([0, 7, 3], np.uint8)[labels]
    found = one_piece_classes(cases(tmp_path, in_file), plan, Silent())
    assert [(one.label, one.value) for one in found] == [("b", 2)]


def test_pictures_have_no_rules(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", volume(ONE_A)[..., 3])
    case = Case(id="a", images=(tmp_path / "a.png",), label=tmp_path / "a.png", patient="a")
    assert one_piece_classes([case], PLAN, Silent()) == ()


def test_a_rule_stays_where_it_does_not_lower_the_mean_dice() -> None:
    piece = [OnePiece(label=name, value=value, num_single=9, num_labels=9) for name, value in PLAN.labels.items()]
    trial = RuleTrial(piece)
    truth = volume(ONE_A, ONE_B)
    trial.add("helped", volume(ONE_A, OTHER_A, ONE_B), truth)
    trial.add("untouched", volume(ONE_A, ONE_B), truth)
    # 'b' is found in two halves, of which the rule would throw one away.
    halves = volume(ONE_A, (2, slice(10, 13), slice(2, 6), slice(1, 4)), (2, slice(10, 13), slice(2, 6), slice(5, 8)))
    trial.add("hurt", halves, truth)
    rules = trial.rules()
    assert [rule.label for rule in rules.rules] == ["a"]
    assert trial.changed(rules) == {"helped"}
    reason = rules.rules[0].reason
    raw = 2 * 448 / (448 + 448 + 48)
    assert f"{(raw + 1 + 1) / 3:.4f} without, 1.0000 with the rule (3 cases)" in reason
    assert "9 of 9 training labels" in reason


def test_without_a_validation_case_that_finds_the_class_there_is_no_rule() -> None:
    trial = RuleTrial([OnePiece(label="b", value=2, num_single=3, num_labels=3)])
    trial.add("absent", volume(ONE_A), volume(ONE_A))
    assert trial.rules() == Postprocessing()
    trial.add("missed", volume(ONE_A), volume(ONE_A, ONE_B))
    assert trial.rules() == Postprocessing()
    trial.add("found", volume(ONE_A, ONE_B), volume(ONE_A, ONE_B))
    assert "0.5000 without, 0.5000 with the rule (2 cases)" in trial.rules().rules[0].reason


def test_rules_leave_alone_what_the_user_prompted() -> None:
    labels = volume(ONE_A, OTHER_A, ONE_B, (2, slice(18, 19), slice(2, 3), slice(1, 2)))
    raw = Segmented(labels_SHW=labels, prompts={}, num_requests=0, tokens={}, prompted=frozenset({2}))
    after = apply_rules(raw, Postprocessing(rules=(LARGEST_A, LARGEST_B)), PLAN).labels_SHW
    np.testing.assert_array_equal(after == 1, volume(ONE_A) == 1)
    np.testing.assert_array_equal(after == 2, labels == 2)
    assert (labels == 1).sum() == 448 + 48  # the given array is not touched
    assert apply_rules(raw, Postprocessing(), PLAN) is raw


def test_an_ensemble_has_the_rules_that_all_members_have() -> None:
    both, only_b = Postprocessing(rules=(LARGEST_A, LARGEST_B)), Postprocessing(rules=(LARGEST_B,))
    assert [rule.label for rule in common_rules([both, only_b]).rules] == ["b"]
    assert common_rules([both]) == both
    assert common_rules([both, Postprocessing()]) == Postprocessing()
