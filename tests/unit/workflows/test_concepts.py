"""Names as people write them, and words that no training named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.base.errors import ConfigError, ProblemList
from medmoe_cli.core.data.prompts_file import PromptsFile
from medmoe_cli.core.workflows.predicting.concepts import asked_for, class_of
from medmoe_cli.core.workflows.predicting.open_labels import with_labels
from tests.tools.words import Words, words_model, words_plan

PLAN = words_plan("liver", "kidney_left", "gall_bladder", prompts={"kidney_left": "left kidney"})


def prompts_file(*entries: dict[str, object]) -> PromptsFile:
    return PromptsFile.model_validate({"schema": 1, "space": "voxel", "cases": {"scan": list(entries)}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("liver", "liver"),
        ("Liver", "liver"),
        (" LIVER ", "liver"),
        ("left kidney", "kidney_left"),
        ("left_kidney", "kidney_left"),
        ("Kidney-Left", "kidney_left"),
        ("LEFT KIDNEY", "kidney_left"),
        ("GallBladder", "gall_bladder"),
        ("hepar", "liver"),
        ("the gall-bladder", "gall_bladder"),
        ("livre", None),
        ("kidney", None),
        ("right kidney", None),
        ("", None),
    ],
)
def test_a_class_is_known_in_any_spelling_and_nothing_else_is(text: str, expected: str | None) -> None:
    assert class_of(text, PLAN) == expected


def test_two_classes_of_one_spelling_are_told_apart_only_when_written_exactly() -> None:
    plan = words_plan("LV", "lv")
    assert class_of("LV", plan) == "LV"
    assert class_of("lv", plan) == "lv"
    assert class_of("Lv", plan) is None
    with pytest.raises(ConfigError, match=r"'Lv' may mean several classes.*'LV' and 'lv'"):
        asked_for([words_model(plan)], texts=("Lv",), prompts=None)


def test_new_words_follow_the_models_own_values_and_a_slip_is_named() -> None:
    plan = PLAN.model_copy(update={"file_labels": {"liver": 1, "kidney_left": 3, "gall_bladder": 200}})
    model = words_model(plan)
    asked = asked_for([model], texts=("liver", "livre", "Adrenal  mass"), prompts=None)
    opened = asked.models[0].plan
    assert opened.labels == {**plan.labels, "Adrenal mass": 4, "livre": 5}
    assert opened.file_names == {**plan.file_names, "Adrenal mass": 201, "livre": 202}
    assert asked.models[0].class_names[3:] == ("Adrenal mass", "livre")
    assert isinstance(model.segmenter, Words)
    assert model.segmenter.extra == ("Adrenal mass", "livre")
    assert asked.warning == (
        "not a class this model was trained on: 'Adrenal mass' (label value 201), "
        "'livre' (label value 202; did you mean 'liver'?)"
    )


def test_classes_alone_change_nothing() -> None:
    model = words_model(PLAN)
    asked = asked_for([model], texts=("Liver", "left kidney"), prompts=None)
    assert asked.models == (model,)
    assert asked.warning is None


@settings(max_examples=25)
@given(st.permutations(["zebra fish", "Zebra_Fish", "aorta", "liver", "vena cava"]))
def test_the_order_of_words_and_their_spelling_twice_mean_nothing(texts: list[str]) -> None:
    asked = asked_for([words_model(PLAN)], texts=texts, prompts=None)
    assert asked.models[0].plan.class_names[3:] == ("aorta", "vena cava", "zebra fish")


def test_a_closed_model_is_left_to_refuse_by_itself_and_a_mixed_panel_is_refused() -> None:
    closed = words_model(PLAN, open_vocabulary=False, source="closed")
    assert asked_for([closed], texts=("tumour",), prompts=None).models == (closed,)
    with pytest.raises(ConfigError, match=r"unknown class 'livre'.*closed knows its own classes.*'liver'"):
        asked_for([words_model(PLAN), closed], texts=("livre",), prompts=None)


def test_words_that_cannot_name_a_label_are_refused_together() -> None:
    with pytest.raises(ProblemList) as caught:
        asked_for([words_model(PLAN)], texts=("  ", "background", "a/b", "x" * 81), prompts=None)
    assert [problem.what.split("'")[0].strip() for problem in caught.value.problems] == [
        "nothing to look for:",
        "nothing to look for:",
        "cannot name a label",
        "cannot name a label",
    ]
    assert caught.value.exit_code == 2


def test_a_prompts_file_names_labels_and_gives_new_words_for_old_ones() -> None:
    file = prompts_file(
        {"label": "Liver", "text": "hepatic parenchyma"},
        {"label": "tumour", "text": "bright spot"},
        {"text": "Left_Kidney"},
        {"text": "Ascites"},
        {"text": "ascites"},
        {"label": "LIVER", "box": [1, 1, 0, 2, 2, 0]},
    )
    asked = asked_for([words_model(PLAN)], texts=(), prompts=file)
    opened = asked.models[0].plan
    assert opened.class_names[3:] == ("Ascites", "tumour")
    assert opened.class_prompts["tumour"] == "bright spot"
    assert asked.synonyms == ("hepatic parenchyma",)
    assert asked.prompts is not None
    assert [entry.name for entry in asked.prompts.cases["scan"]] == [
        "liver", "tumour", "kidney_left", "Ascites", "Ascites", "liver",
    ]  # fmt: skip
    segmenter = asked.models[0].segmenter
    assert isinstance(segmenter, Words)
    assert segmenter.extra == ("Ascites", "bright spot", "hepatic parenchyma")


def test_a_model_without_classes_takes_them_from_what_it_is_asked() -> None:
    model = words_model(words_plan())
    with pytest.raises(ConfigError, match=r"needs to be told what to look for.*--text"):
        with_labels(model, prompts=None, masks=None)
    named = with_labels(model, prompts=None, masks=None, texts=("spleen", "liver"))
    asked = asked_for([named], texts=("spleen", "liver"), prompts=None)
    assert asked.models[0].plan.labels == {"liver": 1, "spleen": 2}
    by_file = prompts_file({"text": "spleen"})
    named = with_labels(model, prompts=by_file, masks=None)
    assert asked_for([named], texts=(), prompts=by_file).models[0].plan.labels == {"spleen": 1}
