"""Dataset and Case: an nnU-Net v2 folder as the other rooms see it.

Reading the folder (`open_dataset`) touches dataset.json and file names only, never voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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

    @property
    def binary(self) -> bool:
        """True when there is one foreground class."""
        return len(self.labels) == 1
