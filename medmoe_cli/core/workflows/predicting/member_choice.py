"""Which member's rules an image is shown by to a model that was trained on a collection.

What is said goes first: `--modality` (a modality, or a member's name), then the Modality of a DICOM, then the
dataset.json beside the scans. Where nothing is said the values tell: colour, pictures or volumes, and air below -200
as only CT has it. Of several members that fit alike the one with most training cases is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.config.plan import MemberPlan, Plan
from medmoe_cli.core.data.dataset_file import FILE_NAME, modality_text
from medmoe_cli.core.data.laterality import words
from medmoe_cli.core.imaging.dicom_modality import dicom_modality
from medmoe_cli.core.imaging.formats import PICTURES, TIFF
from medmoe_cli.core.imaging.image import Image

_KINDS: dict[str, frozenset[str]] = {
    "CT": frozenset({"ct", "cbct"}),
    "MR": frozenset({"mr", "mri", "t1", "t2", "t1w", "t2w", "flair", "dwi", "adc", "bssfp", "cine"}),
    "X-ray": frozenset({"xray", "x", "cxr", "cr", "dx", "rg", "radiograph", "radiography"}),
    "photograph": frozenset({"dermoscopy", "dermatoscopy", "photograph", "photo", "photography", "rgb", "xc"}),
    "ultrasound": frozenset({"us", "ultrasound", "sonography"}),
}
_COLOURS = 3
_AIR = -200
_PICTURE_FORMATS = frozenset(ending.lstrip(".") for ending in (*PICTURES, *TIFF)) | {"jpg", "tiff"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A member, and why it was chosen."""

    member: str
    why: str
    guessed: bool = False


@dataclass(kw_only=True, slots=True)
class MemberChoice:
    """Chooses for one prediction; remembers what was chosen by case.

    Attributes:
        wanted: `--modality`; None when it was not given.
        chosen: by case and collection.
    """

    wanted: str | None = None
    chosen: dict[tuple[str, str], Chosen] = field(default_factory=dict)

    def plan_for(self, plan: Plan, case_id: str, image: Image) -> Plan:
        """The plan by which the image is shown to a model; its own for a model of one dataset."""
        if not plan.members:
            return plan
        found = choose_member(plan, image, self.wanted)
        self.chosen[case_id, plan.dataset] = found
        return plan.for_member(found.member)

    def said(self, case_id: str) -> str:
        """What was chosen for a case, in words; '' where nothing was to be chosen."""
        parts = [
            f"shown as {one.member} ({one.why}{'; --modality NAME says otherwise' if one.guessed else ''})"
            for (case, _), one in self.chosen.items()
            if case == case_id
        ]
        return "; ".join(dict.fromkeys(parts))


def check_modality(plans: tuple[Plan, ...], wanted: str | None) -> None:
    """Refuse a --modality that no model can follow.

    Raises:
        ConfigError: no model is of a collection, or a collection has no such member.
    """
    if wanted is None:
        return
    collections = [plan for plan in plans if plan.members]
    if not collections:
        raise ConfigError(
            "--modality does nothing here",
            why="the model was trained on one dataset, whose rules hold for every image",
            fix="leave it out",
        )
    for plan in collections:
        if not _named(plan, wanted):
            known = ", ".join(dict.fromkeys(one.modality for one in plan.members if one.modality))
            raise ConfigError(
                f"no member of '{plan.dataset}' is '{wanted}'",
                where="--modality",
                why=f"modalities: {known or 'none given'}; members: {', '.join(one.dataset for one in plan.members)}",
                fix="name one of them",
            )


def choose_member(plan: Plan, image: Image, wanted: str | None) -> Chosen:
    """Choose among a collection's members.

    Args:
        plan: the collection's.
        image: as it was read.
        wanted: `--modality`, checked.
    """
    if wanted is not None:
        return _best(_named(plan, wanted), image, f"--modality {wanted}")
    home = _home(plan, image.header.path)
    if home is not None:
        return Chosen(member=home, why=f"it lies in the dataset {home}")
    for said, why in _declared(image):
        fitting = _named(plan, said)
        if fitting:
            return _best(fitting, image, why)
    found = _best(plan.members, image, "")
    return Chosen(member=found.member, why=f"guessed: {_seen(image)}", guessed=len(plan.members) > 1)


def kind_of(text: str) -> str:
    """CT, MR, X-ray, photograph or ultrasound, as the text says; '' when it says none of them."""
    found = words(text.replace("X-ray", "xray").replace("x-ray", "xray"))
    return next((kind for kind, known in _KINDS.items() if known & set(found)), "")


def _named(plan: Plan, text: str) -> tuple[MemberPlan, ...]:
    """The member of that name, else those of that modality."""
    exactly = tuple(one for one in plan.members if text in (one.dataset, one.modality))
    if exactly:
        return exactly
    kind = kind_of(text)
    return tuple(one for one in plan.members if kind and _kind_of_member(one) == kind)


def _kind_of_member(member: MemberPlan) -> str:
    return kind_of(member.modality) or kind_of(" ".join(channel.name for channel in member.plan.channels))


def _declared(image: Image) -> list[tuple[str, str]]:
    """What the files say of themselves: text, and where it stands."""
    found = []
    path = image.header.path
    if image.header.format == "dicom":
        said = dicom_modality(path)
        if said:
            found.append((said, f"DICOM Modality {said}"))
    folder = _dataset_of(path)
    said = "" if folder is None else _modality_in(folder)
    return [*found, (said, f"modality '{said}' in its {FILE_NAME}")] if said else found


def _home(plan: Plan, path: Path) -> str | None:
    """The member in whose folder the scan lies."""
    folder = _dataset_of(path)
    names = {one.dataset for one in plan.members}
    return folder.name if folder is not None and folder.name in names else None


def _dataset_of(path: Path) -> Path | None:
    """The folder beside or above the scan that has a dataset.json."""
    return next((folder for folder in path.parents[:2] if (folder / FILE_NAME).is_file()), None)


def _modality_in(folder: Path) -> str:
    try:
        content = jsonio.read(folder / FILE_NAME)
    except DataError:
        return ""
    return (modality_text(content.get("modality", "")) or "") if isinstance(content, dict) else ""


def _best(members: tuple[MemberPlan, ...], image: Image, why: str) -> Chosen:
    """The member whose images are most like this one; of several the one with most cases."""
    chosen = max(members, key=lambda one: (_likeness(one, image), one.num_cases))
    alike = sum(_likeness(one, image) == _likeness(chosen, image) for one in members)
    more = f", the largest of {alike} such members" if alike > 1 else ""
    return Chosen(member=chosen.dataset, why=why + more)


def _likeness(member: MemberPlan, image: Image) -> int:
    own = member.plan.channels
    colour = len(own) == _COLOURS and all(channel.normalization == "rgb" for channel in own)
    score = 4 * (colour == _is_colour(image)) + 2 * ((member.dimensionality == 2) == image.is_2d)
    score += 3 * ((_kind_of_member(member) == "CT") == _has_air(image))
    return score + (len(own) == _num_channels(image))


def _is_colour(image: Image) -> bool:
    data = image.data
    if image.num_channels != _COLOURS or image.header.format not in _PICTURE_FORMATS:
        return False
    return not bool((data[0] == data[1]).all() and (data[0] == data[2]).all())


def _num_channels(image: Image) -> int:
    """A colour file of a grey picture has one."""
    picture = image.header.format in _PICTURE_FORMATS and image.num_channels == _COLOURS
    return 1 if picture and not _is_colour(image) else image.num_channels


def _has_air(image: Image) -> bool:
    return float(image.data.min()) < _AIR


def _seen(image: Image) -> str:
    what = "a colour picture" if _is_colour(image) else "a picture" if image.is_2d else "a volume"
    return f"{what} with values down to {float(image.data.min()):g}"
