"""`datasheet.json` of a high-quality collection: what is in it, by member, class and modality, and what is missing."""

from __future__ import annotations

from medmoe_cli.core.config.sections import Section


class MemberFacts(Section):
    """One member.

    Attributes:
        dataset: its name in the workspace.
        source: the paper's name of it; '' for a dataset that the paper does not use.
        modality: as its dataset.json says, or the paper.
        licence: as its dataset.json says, else its release; '' where neither does.
        reference: as its dataset.json says.
        slice_axis: canonical axis x, y or z along which volumes are cut.
        cases, patients: training cases, and those with a selected mask.
        images: slices with a mask, and those with a selected one.
        masks: masks of a class in a slice, those that are neither specks nor whole pictures, and the selected ones.
        excluded: masks that were excluded by hand.
    """

    dataset: str
    source: str
    modality: str
    licence: str
    reference: str
    slice_axis: str
    cases: int
    cases_selected: int
    patients: int
    patients_selected: int
    images: int
    images_selected: int
    masks: int
    masks_usable: int
    masks_selected: int
    masks_excluded: int


class ClassFacts(Section):
    """One class of the collection.

    Attributes:
        name: in the common vocabulary.
        members: selected masks by member.
        masks: those to choose from.
        selected: of them.
    """

    name: str
    members: dict[str, int]
    masks: int
    selected: int


class ModalityFacts(Section):
    """All members of one modality."""

    modality: str
    members: tuple[str, ...]
    images: int
    masks: int


class MissingSource(Section):
    """One of the paper's datasets that is not a member: how to add it."""

    source: str
    modality: str
    command: str
    obtain: str
    licence: str


class DataSheet(Section):
    """A collection whose masks were chosen by quality.

    Attributes:
        rule: how many masks each class keeps, in words.
        seed: of the draws.
        exclusions: name of the veto file; '' without.
        splits: how cases are split, in words.
        formula: of the quality score, a line a term.
    """

    schema_version: int = 1
    name: str
    rule: str
    seed: int
    exclusions: str
    splits: str
    formula: tuple[str, ...] = ()
    members: tuple[MemberFacts, ...]
    classes: tuple[ClassFacts, ...]
    modalities: tuple[ModalityFacts, ...]
    missing: tuple[MissingSource, ...]

    @property
    def images(self) -> int:
        """Slices with a selected mask."""
        return sum(member.images_selected for member in self.members)

    @property
    def masks(self) -> int:
        """Selected masks."""
        return sum(member.masks_selected for member in self.members)
