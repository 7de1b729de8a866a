"""Dataset and Case: an nnU-Net v2 folder as the other rooms see it.

Reading the folder (`open_dataset`) touches dataset.json and file names only, never voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One case.

    Attributes:
        id: the file name without channel suffix and ending.
        images: one file per channel, in channel order.
        label: the label file; None for test cases without one.
        patient: splits never separate cases of one patient.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A dataset.

    Attributes:
        name: folder name.
        root: the folder that holds dataset.json.
        channels: channel names in order.
        labels: name to value, background excluded.
        file_ending: of images and labels ('.nii.gz', '.png', ...).
        training: labelled cases (imagesTr), sorted by id.
        test: cases of imagesTs, sorted by id; labels where labelsTs has them.
        class_prompts: text for each class name (the name itself where the file gives none).
        modality: as the file says, '' when it does not.
        members: of a collection, whose cases are theirs under the names MEMBER/CASE; () for any other dataset.
        split_rule: of a collection.
    """

    name: str
    root: Path
    channels: tuple[str, ...]
    labels: dict[str, int]
    file_ending: str
    training: tuple[Case, ...]
    test: tuple[Case, ...]
    class_prompts: dict[str, str] = field(default_factory=dict)
    modality: str = ""
    members: tuple[Member, ...] = ()
    split_rule: SplitRule | None = None

    @property
    def binary(self) -> bool:
        """True when there is one foreground class."""
        return len(self.labels) == 1

    def member(self, name: str) -> Member:
        """A collection's member of that name."""
        return next(one for one in self.members if one.name == name)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """How a collection holds patients out.

    Attributes:
        held_out: share of each member's patients.
        seed: which ones.
        official: a member's own splits_final.json, its first fold, goes first.
    """

    held_out: float = 0.1
    seed: int = 12345
    official: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A dataset as a part of a collection.

    Attributes:
        dataset: as it is by itself.
        classes: its classes to the collection's; the collection's other classes are unknown in its images.
        weight: how often it is drawn, times what its size gives.
        slice_axis: along which the selection counts slices; None for the plan's choice.
        selection: case to slice to the collection's classes to train on; None for all there is.
    """

    dataset: Dataset
    classes: Mapping[str, str]
    weight: float = 1.0
    slice_axis: Literal["x", "y", "z"] | None = None
    selection: Mapping[str, Mapping[int, frozenset[str]]] | None = None

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.dataset.name

    def case_id(self, case: str) -> str:
        """What the collection calls a case of this member."""
        return f"{self.name}/{case}"


def member_of_case(case_id: str) -> tuple[str, str]:
    """Member and own name of a collection's case; '' and the name itself for a case of any other dataset."""
    member, slash, own = case_id.partition("/")
    return (member, own) if slash else ("", case_id)
