"""A merged model on disk, whole or not at all: one file shared by all experts, one file for each, and what is known.

`--into` fills a new folder beside the old one, with the earlier experts' files copied byte for byte, and lets the two
change places in one step.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import medmoe_cli
from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import CheckpointError, ResourceError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.config.backbones import BACKBONES
from medmoe_cli.core.config.merge_report import MergeReport
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.models.sam_med3d_moe.card import CARD
from medmoe_cli.core.nn.weights import save_tensors, tensor_shapes
from medmoe_cli.core.reporting.merge_picture import merge_picture
from medmoe_cli.core.reporting.merge_words import merge_section
from medmoe_cli.core.reporting.model_card import ModelFacts, TrainingData, licence_text, model_card
from medmoe_cli.core.workflows.merging.assembly import Assembly
from medmoe_cli.core.workflows.merging.parts import EXPERTS, METHOD, PICTURE, REPORT, Growing, expert_file
from medmoe_cli.core.workflows.model_files.model_folder import SCHEMA_VERSION
from medmoe_cli.core.workflows.model_files.shared_model import CARD as CARD_FILE
from medmoe_cli.core.workflows.model_files.shared_model import KIND, LICENCE, RECORD, WEIGHTS, file_entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A merged model ready to be written.

    Attributes:
        assembly: its parts.
        gate: the trained gate's tensors.
        predict: inference values.
        report: what `report.json` says.
    """

    assembly: Assembly
    gate: Mapping[str, Tensor]
    predict: PredictConfig
    report: MergeReport


def write_merged(finished: Finished, folder: Path, *, growing: Growing | None) -> Path:
    """Write the model; with `growing` in place of the one it grew from.

    Raises:
        CheckpointError: the merged model was changed by someone else in the meantime.
        ResourceError: the disk is full, or the folder was made by someone else; nothing is left.
    """
    if growing is None and folder.exists():
        raise ResourceError(
            "cannot write", where=folder, why="it was made while the gate trained", fix="choose another -o"
        )

    def fill(temporary: Path) -> None:
        _lay_out(temporary, finished, name=folder.name)
        if growing is not None and file_sha256(growing.folder / RECORD) != growing.record_sha256:
            raise CheckpointError(
                "the merged model has changed",
                where=growing.folder,
                why="someone else added to it while this gate trained",
                fix="run the same command again",
            )

    return atomic.replace_dir(folder, fill)


def _lay_out(folder: Path, finished: Finished, *, name: str) -> None:
    assembly = finished.assembly
    save_tensors(folder / WEIGHTS, dict(sorted({**assembly.general, **finished.gate}.items())))
    (folder / EXPERTS).mkdir()
    for index, expert in enumerate(assembly.names):
        path = expert_file(folder, expert)
        if index in assembly.kept:
            shutil.copyfile(assembly.kept[index], path)
        else:
            save_tensors(path, dict(sorted(assembly.added[index].items())))
    tensors = [WEIGHTS, *(f"{EXPERTS}/{expert}.safetensors" for expert in assembly.names)]
    jsonio.write(folder / REPORT, finished.report)
    atomic.write_bytes(folder / PICTURE, merge_picture(finished.report))
    facts = _facts(folder, finished, name=name, files=tensors)
    atomic.write_text(folder / CARD_FILE, f"{model_card(facts)}\n{merge_section(finished.report)}")
    atomic.write_text(folder / LICENCE, licence_text(facts))
    jsonio.write(
        folder / RECORD,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "name": name,
            "medmoe": medmoe_cli.__version__,
            "method": METHOD,
            "paper": CARD.paper,
            "licence": CARD.licence,
            "plan": assembly.plan,
            "model": assembly.config,
            "predict": finished.predict,
            "postprocessing": Postprocessing(),
            "files": {one: file_entry(folder / one) for one in tensors},
            "documents": {one: file_entry(folder / one) for one in (CARD_FILE, LICENCE)},
        },
    )


def _facts(folder: Path, finished: Finished, *, name: str, files: list[str]) -> ModelFacts:
    config = finished.assembly.config
    promptable = {one for entry in config.experts for one in entry.classes}
    binary = finished.assembly.plan.binary and bool(promptable)
    kinds = {"point", "box", "mask", "text", *(["none"] if binary else [])}
    general = next((one.dataset for one in finished.report.data if one.owner == "general"), "")
    return ModelFacts(
        name=name,
        card=CARD,
        plan=finished.assembly.plan,
        data=TrainingData(name=finished.assembly.plan.dataset or general),
        prompt_kinds=tuple(sorted(kinds)),
        parameters=sum(_size(folder / one) for one in files),
        experts=finished.assembly.names,
        backbone=BACKBONES.get(config.weights or config.backbone),
        summary=None,
        medmoe=medmoe_cli.__version__,
        weights_sha256=file_entry(folder / WEIGHTS).sha256,
    )


def _size(path: Path) -> int:
    """Numbers in a tensor file, by its header."""
    total = 0
    for shape in tensor_shapes(path).values():
        count = 1
        for side in shape:
            count *= side
        total += count
    return total
