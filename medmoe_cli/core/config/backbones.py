"""Backbones: facts about the pretrained weights medmoe understands, and the record kept beside those added.

Readable without torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import ValidationError

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError, DataError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.config.sections import Section

RECORD_FILE = "model.json"
TENSORS_FILE = "model.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneFacts:
    """What is publicly known of an architecture's weights.

    Attributes:
        name: as typed after `models add`.
        title: for people.
        parameters: of what medmoe keeps (image encoder, prompt encoder, mask decoder).
        file: name of the public file.
        source: where its authors publish it.
        licence: of the weights.
        sha256: of the public file; None where its authors publish none.
        dims: of the images.
        with_files: needs files beside its weights (a tokenizer's), so that a folder may be named in place of a file.
        carries_arguments: the public file holds an `argparse.Namespace` beside its tensors, which is left out; no
            other class is ever accepted.
    """

    name: str
    title: str
    parameters: int
    file: str
    source: str
    licence: str
    sha256: str | None
    dims: Literal[2, 3] = 2
    with_files: bool = False
    carries_arguments: bool = False


_SAM_SOURCE = "github.com/facebookresearch/segment-anything"
_FACTS = (
    BackboneFacts(
        name="sam-vit-b",
        title="Segment Anything, ViT-B",
        parameters=93_735_472,
        file="sam_vit_b_01ec64.pth",
        source=_SAM_SOURCE,
        licence="Apache-2.0",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    BackboneFacts(
        name="sam-vit-l",
        title="Segment Anything, ViT-L",
        parameters=312_342_832,
        file="sam_vit_l_0b3195.pth",
        source=_SAM_SOURCE,
        licence="Apache-2.0",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    BackboneFacts(
        name="sam-vit-h",
        title="Segment Anything, ViT-H",
        parameters=641_090_608,
        file="sam_vit_h_4b8939.pth",
        source=_SAM_SOURCE,
        licence="Apache-2.0",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    BackboneFacts(
        name="imisnet-b",
        title="IMISNet-B: SAM ViT-B with a 768-wide decoder, trained on IMed-361M",
        parameters=117_698_032,
        file="IMISNet-B.pth",
        source="github.com/uni-medical/IMIS-Bench",
        licence="see its source",
        sha256=None,
    ),
    BackboneFacts(
        name="sam-med3d",
        title="SAM-Med3D: SAM ViT-B in 3D at 128 x 128 x 128, with embeddings for a box's corners added",
        parameters=100_510_000,
        file="sam_med3d_turbo.pth",
        source="github.com/uni-medical/SAM-Med3D",
        licence="Apache-2.0",
        sha256=None,
        dims=3,
        carries_arguments=True,
    ),
    BackboneFacts(
        name="sam3",
        title="SAM3: image and text encoder, fusion, decoder and mask head, and its tokenizer",
        parameters=840_376_374,
        file="model.safetensors with config.json and tokenizer.json, or sam3.pt with its tokenizer's file",
        source="huggingface.co/facebook/sam3",
        licence="SAM License",
        sha256=None,
        with_files=True,
    ),
)

BACKBONES: Mapping[str, BackboneFacts] = MappingProxyType({facts.name: facts for facts in _FACTS})


class KeySummary(Section):
    """What became of the source's tensors, by name.

    Attributes:
        loaded: how many were taken over.
        resized: position tables of another size than the architecture's own image size; kept as they are.
        unexpected: not known to the architecture; left out.
        left_out: known, and not used by medmoe (another text encoder, a replaced neck).
        new: absent from public checkpoints of the architecture; made by medmoe, to be trained.
    """

    loaded: int
    resized: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


class BackboneRecord(Section):
    """`model.json` of an added backbone."""

    schema_version: Literal[1] = 1
    kind: Literal["backbone"] = "backbone"
    name: str
    architecture: str
    parameters: int
    tensors_sha256: str
    source_file: str
    source_sha256: str
    source_is_public: bool | None
    keys: KeySummary
    licence: str
    added: str
    medmoe: str


def backbone_facts(architecture: str) -> BackboneFacts:
    """Look an architecture up.

    Raises:
        ConfigError: none of that name.
    """
    if architecture not in BACKBONES:
        raise ConfigError(
            f"unknown backbone '{architecture}'",
            why=did_you_mean(architecture, BACKBONES),
            fix=f"medmoe models add {next(iter(BACKBONES))} PATH, or one of {', '.join(BACKBONES)}",
        )
    return BACKBONES[architecture]


def check_name(name: str) -> None:
    """Refuse names that are no plain folder name.

    Raises:
        ConfigError: it has other characters than letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ConfigError(
            f"'{name}' cannot be a model's name",
            why="letters, digits, dots, dashes and underscores only",
            fix="choose another with --name",
        )


def read_record(folder: Path) -> BackboneRecord:
    """The record of an added backbone.

    Raises:
        CheckpointError: absent or damaged.
    """
    path = folder / RECORD_FILE
    try:
        return BackboneRecord.model_validate(jsonio.read(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        why = f"{place}: {first['msg']}"
        raise CheckpointError("damaged model record", where=path, why=why, fix=_again(folder)) from error
    except DataError as error:
        raise CheckpointError(
            "damaged model record", where=path, why=error.why or error.what, fix=_again(folder)
        ) from error


def verify_backbone(folder: Path) -> None:
    """Compare the tensors' sha256 with the record's.

    Raises:
        CheckpointError: absent or changed.
    """
    record = read_record(folder)
    path = folder / TENSORS_FILE
    if not path.is_file():
        raise CheckpointError("model without weights", where=folder, why=f"{TENSORS_FILE} is gone", fix=_again(folder))
    found = file_sha256(path)
    if found != record.tensors_sha256:
        raise CheckpointError(
            "damaged weights",
            where=path,
            why=f"sha256 is {found[:12]}..., {record.tensors_sha256[:12]}... was added",
            fix=_again(folder),
        )


def _again(folder: Path) -> str:
    return f"remove the folder {folder} and add the model again with medmoe models add"
