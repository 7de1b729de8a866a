"""One class, one name: spellings of a class agree, sides never do, and nothing depends on the order of things."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.data.vocabulary import is_generic, key_of, match_names, merge_names, words_of

WORDS = ("left", "right", "kidney", "adrenal", "gland", "vein", "cava", "inferior", "lobe", "upper", "lung", "LV", "T1")
names = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True)
SPELLINGS = {
    "right kidney": ("kidney_right", "RK", "right_kidney", "Kidney(R)", "RightKidney", "ren dexter", "kidney, right"),
    "left ventricle": ("LV", "heart_ventricle_left", "left ventricle blood cavity", "Left Ventricle"),
    "myocardium": ("MYO", "myocardium of the left ventricle", "heart_myocardium"),
    "gallbladder": ("gall bladder", "vesica fellea", "Gall-Bladder"),
    "inferior vena cava": ("postcava", "IVC", "vena cava inferior"),
    "aorta": ("arota", "Aorta"),
    "esophagus": ("oesophagus", "Eso"),
    "left femur head": ("Head of femur(L)", "femoral head left"),
    "urinary bladder": ("bladder", "urinary_bladder"),
    "lung": ("lungs", "Lung"),
    "portal and splenic vein": ("portal vein and splenic vein", "portal_vein_and_splenic_vein"),
}


@pytest.mark.parametrize(("name", "spelling"), [(name, one) for name, ones in SPELLINGS.items() for one in ones])
def test_spellings_of_a_class_are_one(name: str, spelling: str) -> None:
    assert key_of(spelling) == key_of(name)


def test_different_classes_stay_apart() -> None:
    apart = (
        *SPELLINGS,
        *("left kidney", "kidney", "right ventricle", "left lung", "right lung", "femur_left", "duodenum", "colon"),
        *("portal vein", "ascending aorta", "small bowel", "adrenal gland", "left adrenal gland", "left atrium"),
    )
    assert len({key_of(name) for name in apart}) == len(apart)


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=30))
def test_a_key_is_its_own_key(text: str) -> None:
    assert key_of(key_of(text)) == key_of(text)


@settings(max_examples=100, deadline=None)
@given(words=names, data=st.data())
def test_order_case_and_punctuation_say_nothing(words: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(words))
    joint = data.draw(st.sampled_from((" ", "_", "-", ", ", "/")))
    assert key_of(joint.join(shuffled)) == key_of(" ".join(words))
    assert key_of(" ".join(words).upper()) == key_of(" ".join(words))


@settings(max_examples=100, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS[2:]), min_size=1, max_size=3, unique=True))
def test_sides_are_never_merged(words: list[str]) -> None:
    base = " ".join(words)
    assert len({key_of(f"left {base}"), key_of(f"right {base}")}) == 2
    if "LV" not in words:
        assert key_of(base) not in {key_of(f"left {base}"), key_of(f"right {base}")}


@settings(max_examples=60, deadline=None)
@given(
    members=st.dictionaries(
        st.sampled_from(("a1", "b2", "c3")),
        st.lists(
            st.sampled_from(("kidney_right", "RK", "spleen", "lesion", "left lung", "Lung (L)", "Anterior", "liver")),
            min_size=1,
            max_size=5,
            unique_by=lambda name: key_of(name),
        ),
        min_size=1,
    ),
    data=st.data(),
)
def test_merging_is_free_of_order_and_names_every_class_once(
    members: dict[str, list[str]], data: st.DataObject
) -> None:
    merged = merge_names(members)
    order = data.draw(st.permutations(sorted(members)))
    again = merge_names({one: data.draw(st.permutations(members[one])) for one in order})
    assert [one.name for one in again] == [one.name for one in merged]
    assert [dict(one.members) for one in again] == [dict(one.members) for one in merged]
    found = sorted((member, own) for one in merged for member, owns in one.members.items() for own in owns)
    assert found == sorted((member, own) for member, owns in members.items() for own in owns)
    assert len({one.name for one in merged}) == len(merged)
    # What was merged once has nothing left to merge.
    once_more = merge_names({"all": [one.name for one in merged if not is_generic(one.name)]})
    assert sorted(one.name for one in once_more) == sorted(one.name for one in merged if not is_generic(one.name))


def test_words_that_name_nothing_are_called_after_their_dataset() -> None:
    merged = {one.name: dict(one.members) for one in merge_names({"isic": ["lesion"], "isles": ["lesion", "Tumour"]})}
    assert merged == {
        "isic_lesion": {"isic": ("lesion",)},
        "isles_lesion": {"isles": ("lesion",)},
        "isles_Tumour": {"isles": ("Tumour",)},
    }
    assert is_generic("left")
    assert not is_generic("left lung")
    assert words_of("Kidney(R)") == ("right", "kidney")


def test_two_names_for_one_class_are_an_error_unless_somebody_decided() -> None:
    members = {"two": ("RK", "right kidney", "spleen"), "lobes": ("upper lobe", "lower lobe")}
    with pytest.raises(DataError, match="two names for one class") as found:
        merge_names(members)
    assert "'RK' and 'right kidney'" in found.value.why
    given_classes = {
        "two": {"RK": "right kidney", "right kidney": "other kidney"},
        "lobes": {"upper lobe": "lung", "lower lobe": "lung"},
    }
    merged = {one.name: dict(one.members) for one in merge_names(members, given=given_classes)}
    assert merged["lung"] == {"lobes": ("upper lobe", "lower lobe")}
    assert set(merged) == {"lung", "right_kidney", "other_kidney"}


def test_names_are_matched_exactly_then_by_member_then_by_spelling() -> None:
    known = ("right_kidney", "heads_lesion", "spleen")
    members = {"heads": {"lesion": "heads_lesion", "Spleen": "spleen"}}
    assert match_names(("lesion", "Spleen"), known, members=members) == {"lesion": "heads_lesion", "Spleen": "spleen"}
    assert match_names(("RK", "spleen", "lesion"), known) == {"RK": "right_kidney", "spleen": "spleen"}
    assert match_names(("liver",), known, members=members) == {}
