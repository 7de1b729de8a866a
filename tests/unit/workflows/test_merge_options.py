"""What `merge-experts` is asked for: names, data and thresholds as typed."""

from __future__ import annotations

import pytest

from medmoe_cli.core.base.errors import ConfigError, MedMoEError, ProblemList
from medmoe_cli.core.workflows.merging.options import (
    NamedExpert,
    OwnedData,
    name_problems,
    parse_data,
    parse_experts,
    parse_fuse,
    parse_tau,
)


def test_experts_and_data_are_read_as_typed() -> None:
    assert parse_experts(["a=runs/x=1", "b=y"]) == (
        NamedExpert(name="a", model="runs/x=1"),
        NamedExpert(name="b", model="y"),
    )
    assert parse_data(["hearts", "general=lungs"]) == (
        OwnedData(dataset="hearts"),
        OwnedData(dataset="lungs", owner="general"),
    )
    assert (parse_tau(None), parse_tau("auto"), parse_tau("0"), parse_tau("0.7")) == (None, "auto", 0.0, 0.7)
    assert (parse_fuse(None), parse_fuse("probabilities")) == (None, "probabilities")


@pytest.mark.parametrize("text", ["1.2", "-0.1", "nan", "aut"])
def test_a_tau_that_is_no_probability_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--tau"):
        parse_tau(text)


@pytest.mark.parametrize("text", ["=hearts", "general="])
def test_half_a_data_option_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="OWNER=DATASET"):
        parse_data([text])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("general", "own name"),
        ("General", "own name"),
        ("../up", "file's name"),
        ("a/b", "file's name"),
        (".hidden", "file's name"),
        ("", "file's name"),
        ("x" * 101, "file's name"),
        ("lungs", "an expert has that name"),
        ("LUNGS", "capitals alone"),
    ],
)
def test_names_that_cannot_be_files_or_answers_are_refused(name: str, why: str) -> None:
    (problem,) = name_problems([name], taken=["lungs"])
    assert why in problem.why
    assert problem.exit_code == 2


def test_good_names_pass() -> None:
    assert not name_problems(["liver-tumour", "T1.5_b", "9"], taken=["lungs"])


def test_every_bad_expert_is_named_at_once() -> None:
    with pytest.raises(ProblemList) as caught:
        parse_experts(["nomodel", "general=x", "a=1", "a=2"])
    assert len(caught.value.problems) == 3
    assert isinstance(caught.value, MedMoEError)
