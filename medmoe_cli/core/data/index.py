"""open_dataset: an nnU-Net v2 folder as a Dataset, from dataset.json and file names only."""

from __future__ import annotations

from pathlib import Path

from medmoe_cli.core.data.dataset import Dataset
from medmoe_cli.core.data.dataset_file import DatasetFile, read_dataset_file
from medmoe_cli.core.data.finding import raise_errors
from medmoe_cli.core.data.listing import Listing, list_cases


def open_dataset(root: Path) -> Dataset:
    """Open a dataset; voxels are not read.

    Gaps between label values are accepted (the planner numbers classes consecutively); a colour picture is one file
    for its three channels.

    Raises:
        DataError: dataset.json or the files' names have problems; all of them together.
    """
    root = root.resolve()
    file, findings = read_dataset_file(root)
    if file is None:
        raise_errors(findings, root)
        raise AssertionError("a dataset.json that cannot be used comes with an error")
    listing = list_cases(root, file)
    raise_errors([*findings, *listing.findings], root)
    return assemble(root, file, listing)


def assemble(root: Path, file: DatasetFile, listing: Listing) -> Dataset:
    """The Dataset of the complete cases."""
    return Dataset(
        name=root.name,
        root=root,
        channels=file.channels,
        labels=file.labels,
        file_ending=file.file_ending,
        training=listing.training,
        test=listing.test,
        class_prompts=file.class_prompts,
        modality=file.modality,
    )
