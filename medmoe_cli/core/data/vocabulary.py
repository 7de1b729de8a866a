"""One vocabulary for the classes of several datasets: what only differs in spelling is one class.

Two names are one class when their keys agree. A key is the name in lower case without accents, cut into words at
punctuation, underscores and capitals; words that say the same become one (`_WORDS`), whole names that say the same
become one (`_NAMES`), 'of', 'the', 'and' and the like go, a side goes first, and the order of the other words counts
for nothing. So 'right kidney', 'kidney_right', 'Kidney(R)', 'RK' and 'ren dexter' are one class, and 'left kidney' is
another: sides are never merged, neither with each other nor with a name without a side.

Words that name nothing by themselves ('lesion', 'tumor', 'anterior') are kept apart: a lesion of the skin and one of
the brain are not one class. Such a class is called after its dataset, 'isic_lesion'.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medmoe_cli.core.base.errors import DataError, MedMoEError, raise_all

_SIDES = ("left", "right")
_DROPPED = frozenset({"of", "the", "and", "or", "a"})

# One word for another: sides, plurals, Latin, spellings of the datasets' own.
_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("l", "lt", "lft", "lh", "sin", "sinister", "sinistra", "sinistrum"), "left"),
    **dict.fromkeys(("r", "rt", "rgt", "rh", "dex", "dexter", "dextra", "dextrum"), "right"),
    **dict.fromkeys(("kidneys", "ren", "renes", "kid"), "kidney"),
    **dict.fromkeys(("lungs", "pulmo", "pulmones"), "lung"),
    **dict.fromkeys(("livers", "hepar"), "liver"),
    **dict.fromkeys(("spleens", "lien", "splen"), "spleen"),
    **dict.fromkeys(("hearts", "cor"), "heart"),
    **dict.fromkeys(("gaster", "stomachs"), "stomach"),
    **dict.fromkeys(("oesophagus", "oesophag", "esophag"), "esophagus"),
    **dict.fromkeys(("arota", "aortae"), "aorta"),
    **dict.fromkeys(("veins", "vena", "venae"), "vein"),
    **dict.fromkeys(("arteries", "arteria", "arteriae"), "artery"),
    **dict.fromkeys(("glands", "glandula", "glandulae"), "gland"),
    **dict.fromkeys(("suprarenal", "suprarenalis", "adrenals"), "adrenal"),
    **dict.fromkeys(("atria", "atrial"), "atrium"),
    **dict.fromkeys(("ventricles", "ventricular", "ventriculus", "ventriculi"), "ventricle"),
    **dict.fromkeys(("myocardial", "myocard"), "myocardium"),
    **dict.fromkeys(("femurs", "femora", "femoral"), "femur"),
    **dict.fromkeys(("heads", "caput"), "head"),
    **dict.fromkeys(("prostata",), "prostate"),
    **dict.fromkeys(("vesica",), "bladder"),
    **dict.fromkeys(("lobes", "lobus"), "lobe"),
    **dict.fromkeys(("lesions", "laesio"), "lesion"),
    **dict.fromkeys(("tumour", "tumors", "tumours"), "tumor"),
    **dict.fromkeys(("infarction", "infarcts"), "infarct"),
    **dict.fromkeys(("hippocampi",), "hippocampus"),
}

# Whole names that say the same, as their words; the first of each row is what the class is called.
_ROWS: tuple[tuple[str, ...], ...] = (
    ("left kidney", "lk", "lkid", "lkidney"),
    ("right kidney", "rk", "rkid", "rkidney"),
    ("left adrenal gland", "left adrenal", "lag"),
    ("right adrenal gland", "right adrenal", "rag"),
    ("adrenal gland", "adrenal"),
    ("left lung", "llung"),
    ("right lung", "rlung"),
    ("liver", "liv"),
    ("spleen", "spl"),
    ("stomach", "sto"),
    ("pancreas", "pan", "panc"),
    ("gallbladder", "gall bladder", "gb", "gbl", "gal", "fellea bladder", "biliaris bladder"),
    ("urinary bladder", "bladder", "bla", "urinaria bladder"),
    ("esophagus", "eso"),
    ("duodenum", "duo", "duod"),
    ("rectum", "rec"),
    ("small bowel", "small intestine"),
    ("inferior vena cava", "inferior vein cava", "ivc", "postcava", "post cava", "postcaval vein"),
    (
        "portal and splenic vein",
        "portal vein splenic vein",
        "portal splenic vein",
        "portal splenic",
        "psv",
        "pvsv",
    ),
    ("portal vein", "portae vein", "pv"),
    ("ascending aorta", "aa"),
    ("aorta", "ao"),
    ("pulmonary artery", "pulmonalis artery", "pa"),
    (
        "left ventricle",
        "lv",
        "lvc",
        "heart left ventricle",
        "left ventricle blood cavity",
        "left ventricle cavity",
        "left ventricle blood pool",
    ),
    (
        "right ventricle",
        "rv",
        "rvc",
        "heart right ventricle",
        "right ventricle blood cavity",
        "right ventricle cavity",
        "right ventricle blood pool",
    ),
    ("left atrium", "la", "heart left atrium", "left atrium blood cavity", "left atrium cavity"),
    ("right atrium", "ra", "heart right atrium", "right atrium blood cavity", "right atrium cavity"),
    (
        "myocardium",
        "myo",
        "heart myocardium",
        "left ventricle myocardium",
        "lv myocardium",
        "lvm",
        "lv myo",
    ),
    ("left femur head", "lfh"),
    ("right femur head", "rfh"),
    ("prostate or uterus", "prostate uterus", "pro uter"),
    ("skin lesion",),
    ("stroke lesion", "ischemic stroke lesion", "ischemic stroke infarct", "stroke infarct", "stroke"),
)

# Words that say what kind of thing or where, but not of what: alone they are no name that another dataset may share.
_GENERIC = frozenset(
    {
        *("lesion", "tumor", "mass", "mask", "foreground", "object", "target", "organ", "structure", "infarct", "cyst"),
        *("anterior", "posterior", "superior", "inferior", "upper", "lower", "middle", "left", "right", "ventral"),
        *("dorsal", "medial", "lateral", "core", "edema", "necrosis", "whole", "enhancing", "label", "class", "region"),
    }
)


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, each as it is spelled here, sides first, in the name's order; nothing is dropped twice."""
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).casefold()
    found = [_WORDS.get(word, word) for word in re.split(r"[^a-z0-9]+", spaced) if word and word not in _DROPPED]
    once = list(dict.fromkeys(found))
    return (*[word for word in once if word in _SIDES], *[word for word in once if word not in _SIDES])


def _set_of(name: str) -> frozenset[str]:
    return frozenset(words_of(name))


_NAMES: Mapping[frozenset[str], str] = {_set_of(name): row[0] for row in _ROWS for name in row}


def key_of(name: str) -> str:
    """What two names of one class share; a name's key is its own key.

    A name without any letter or digit is its own key.
    """
    words = frozenset(words_of(name))
    known = _NAMES.get(words)
    if known is not None:
        words = _set_of(known)
    ordered = [*sorted(words & set(_SIDES)), *sorted(words - set(_SIDES))]
    return " ".join(ordered) or name.strip()


def is_generic(name: str) -> bool:
    """True for names that say nothing outside of their own dataset."""
    words = words_of(name)
    return not words or all(word in _GENERIC or word.isdigit() or len(word) == 1 for word in words)


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedClass:
    """A class of the common vocabulary.

    Attributes:
        name: what it is called.
        members: dataset to its own names for it, in the dataset's order; one, unless told otherwise.
    """

    name: str
    members: Mapping[str, tuple[str, ...]]

    @property
    def spellings(self) -> int:
        """In how many ways the datasets spell it."""
        return len({name for names in self.members.values() for name in names})

    @property
    def is_merged(self) -> bool:
        """True when a dataset spells it otherwise than the vocabulary."""
        return len({name for names in self.members.values() for name in names} | {self.name}) > 1


def merge_names(
    members: Mapping[str, Sequence[str]], *, given: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[MergedClass, ...]:
    """The common vocabulary of several datasets, sorted by name; the order of datasets and names changes nothing.

    Args:
        members: dataset to its class names.
        given: for a dataset, own class to common class, where somebody has decided; it may bring several own classes
            together, and what it does not name is left out.

    Raises:
        DataError: a dataset that has two names for one class; all of them together.
    """
    given = given or {}
    found: dict[str, dict[str, list[str]]] = {}
    spelled: dict[str, set[str]] = {}
    problems: list[MedMoEError] = []
    for member in sorted(members):
        decided = given.get(member)
        for own in members[member]:
            if decided is not None and own not in decided:
                continue
            wanted = decided[own] if decided is not None else own
            if decided is None and is_generic(own):
                wanted = f"{member}_{own}"
                key = f"{member} {key_of(own)}"
            else:
                key = key_of(wanted)
            names = found.setdefault(key, {}).setdefault(member, [])
            if names and decided is None:
                problems.append(_conflict(member, names[0], own, key))
            names.append(own)
            spelled.setdefault(key, set()).add(wanted)
    raise_all(problems)
    classes = [
        MergedClass(name=_called(key, spelled[key]), members={one: tuple(names) for one, names in found[key].items()})
        for key in found
    ]
    return tuple(sorted(classes, key=lambda one: one.name))


def _called(key: str, spelled: set[str]) -> str:
    """The name of the table of known names, else the plainest of the spellings that occur."""
    known = _NAMES.get(frozenset(key.split()))
    chosen = known or min(spelled, key=lambda name: (len(name), name))
    return re.sub(r"[^A-Za-z0-9.\-]+", "_", chosen).strip("_") or "class"


def _conflict(member: str, one: str, other: str, key: str) -> DataError:
    return DataError(
        f"dataset '{member}' has two names for one class",
        where=member,
        why=f"'{one}' and '{other}' both say '{key}'",
        fix=f"rename one of them in its dataset.json, or say what each is: "
        f'"classes": {{"{one}": "NAME", "{other}": "OTHER"}} of {member} in the collection\'s dataset.json',
    )


def match_names(
    names: Sequence[str], known: Sequence[str], *, members: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, str]:
    """Which of the known classes each name means; names that mean none of them are left out.

    Equal names are one class, whatever else could be thought of. Of the others, names that are all those of one
    dataset mean what that dataset's classes became; then spellings of one class are one class.

    Args:
        names: to be understood.
        known: the classes.
        members: of the datasets that made up the known classes, own class to known class.
    """
    found = {name: name for name in names if name in set(known)}
    for classes in (members or {}).values():
        if set(names) <= set(classes):
            return {name: found.get(name, classes[name]) for name in names}
    keys: dict[str, str] = {}
    for name in known:
        keys.setdefault(key_of(name), name)
    taken = set(found.values())
    for name in names:
        same = keys.get(key_of(name))
        if name not in found and same is not None and same not in taken:
            found[name] = same
    return found
