"""A workspace of three small phantoms of different kinds, and the collection of them."""

from __future__ import annotations

from pathlib import Path

from medmoe_cli.core.data.collection import Source, write_collection
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.vocabulary import merge_names
from tests.tools.datasets import make_dataset

MEMBERS = ("heads", "chests", "skins")
NAME = "everything"


def make_members(datasets: Path, *, cases: int = 5) -> None:
    """MR volumes with two sided classes, grey pictures that share one of them, colour pictures of something else."""
    make_dataset(
        datasets / "heads",
        cases=cases,
        shape=(28, 24, 5),
        class_names=("kidney_right", "spleen"),
        channel_names=("T1",),
        modality="MR",
        seed=1,
    )
    make_dataset(
        datasets / "chests",
        cases=cases + 3,
        dims=2,
        shape=(40, 36),
        class_names=("Spleen",),
        channel_names=("X-ray",),
        modality="X-ray",
        seed=2,
    )
    make_dataset(
        datasets / "skins",
        cases=cases,
        dims=2,
        shape=(36, 40),
        class_names=("lesion",),
        channel_names=("R", "G", "B"),
        colour=True,
        modality="dermoscopy",
        seed=3,
    )


def make_collection(datasets: Path, *, cases: int = 5, members: tuple[str, ...] = MEMBERS) -> Path:
    """The members, and the folder that names them."""
    make_members(datasets, cases=cases)
    classes = merge_names({name: tuple(open_dataset(datasets / name).labels) for name in members})
    folder = datasets / NAME
    folder.mkdir(parents=True, exist_ok=True)
    write_collection(folder, name=NAME, classes=classes, sources=[Source(dataset=name) for name in members])
    return folder
