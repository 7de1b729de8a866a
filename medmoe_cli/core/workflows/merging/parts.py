"""What is merged, as tensors: a general model, experts that started from it, or a merged model that grows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError, DataError
from medmoe_cli.core.base.hashing import file_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.merge_report import MergeReport
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
from medmoe_cli.core.models.sam_med3d_moe.merging import shared_from
from medmoe_cli.core.nn.weights import load_tensors
from medmoe_cli.core.workflows.model_files.model_folder import SCHEMA_VERSION, find_model, load_model
from medmoe_cli.core.workflows.model_files.shared_model import RECORD, WEIGHTS, SharedRecord, read_record, verify_files

METHOD = "sam-med3d-moe"
REPORT, PICTURE, EXPERTS = "report.json", "report.png", "experts"
_GATE = "gate."
_FOLD = re.compile(r"fold_(\w+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A model that takes part.

    Attributes:
        name: 'general', or the expert's.
        model: as the user named it, for messages.
        config, plan, predict: the model's.
        tensors: its own, by name.
        sha256: of its weights file.
        fold: that it was trained on, '' where that is not known.
    """

    name: str
    model: str
    config: SamMed3dMoeConfig
    plan: Plan
    predict: PredictConfig
    tensors: Mapping[str, Tensor]
    sha256: str
    fold: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Growing:
    """A merged model as it is: its experts' tensors stay on disk.

    Attributes:
        folder: of the model.
        general: its general model; `config` is the merged model's, `tensors` are all but gate and experts.
        gate: the gate's tensors.
        experts: name to file, in order.
        report: how it was made; None where the folder came without one.
        record_sha256: of model.json, as read.
    """

    folder: Path
    general: Part
    gate: Mapping[str, Tensor]
    experts: dict[str, Path] = field(default_factory=dict)
    report: MergeReport | None
    record_sha256: str


def load_part(name: str, model: str, *, workspace: Workspace, reporter: Reporter) -> Part:
    """The general model or an expert, checked byte for byte.

    Raises:
        ConfigError: a name of several folds.
        CheckpointError: no such model, damaged, or of another method.
    """
    loaded = load_model(model, workspace=workspace, reporter=reporter)
    config = loaded.config
    if not isinstance(config, SamMed3dMoeConfig):
        raise CheckpointError(
            f"'{name}' is a model of {loaded.plan.method}",
            where=loaded.source,
            why=f"{METHOD} alone has experts to merge",
            fix=f"medmoe train --method {METHOD} --data {loaded.plan.dataset}",
        )
    return Part(
        name=name,
        model=model,
        config=config,
        plan=loaded.plan,
        predict=loaded.predict,
        tensors=dict(loaded.segmenter.state_dict()),
        sha256=loaded.sha256,
        fold=_fold_of(loaded.source),
    )


def read_merged(name: str, *, workspace: Workspace) -> Growing:
    """A merged model without its experts' tensors; every file's sha256 is compared.

    Raises:
        CheckpointError: no such model, damaged, or not merged.
    """
    folder = find_model(name, workspace=workspace)
    if not (folder / RECORD).is_file():
        raise _not_merged(folder, "it is a run")
    record = read_record(folder)
    verify_files(folder, record, frozenset(one for one in record.entries if (folder / one).is_file()))
    if record.schema_version != SCHEMA_VERSION or record.method != METHOD:
        raise _not_merged(folder, f"method {record.method}, schema {record.schema_version}")
    content = jsonio.read(folder / RECORD)
    try:
        config = SamMed3dMoeConfig.model_validate(record.model)
        plan = Plan.model_validate(record.plan)
        predict = PredictConfig.model_validate(content.get("predict", {}))
    except ValidationError as error:
        raise CheckpointError(
            "cannot read the model's configuration",
            where=folder / RECORD,
            why=" ".join(str(error).split())[:300],
            fix="use the version that wrote it",
        ) from error
    if config.role != "merged":
        raise _not_merged(folder, f"its role is {config.role}")
    tensors = shared_from(load_tensors(folder / WEIGHTS))
    general = Part(
        name="general",
        model=name,
        config=config,
        plan=plan,
        predict=predict,
        tensors={key: tensor for key, tensor in tensors.items() if not key.startswith(_GATE)},
        sha256=_sha256_of_general(folder, record),
        fold="",
    )
    return Growing(
        folder=folder.resolve(),
        general=general,
        gate={key: tensor for key, tensor in tensors.items() if key.startswith(_GATE)},
        experts={entry.name: expert_file(folder, entry.name) for entry in config.experts},
        report=_report_in(folder),
        record_sha256=file_sha256(folder / RECORD),
    )


def refuse_merged(name: str, *, workspace: Workspace) -> None:
    """Say what to do with a merged model that was named as the general one; its experts are not read for that.

    Raises:
        CheckpointError: it is merged.
    """
    for folder in (workspace.models / name, Path(name)):
        if not (folder / RECORD).is_file():
            continue
        content = jsonio.read(folder / RECORD)
        model = content.get("model") if isinstance(content, dict) else None
        if isinstance(model, dict) and model.get("role") == "merged":
            raise CheckpointError(
                f"'{name}' is merged already",
                where="--general",
                why="it is a general model with experts",
                fix=f"--into {name} in place of --general and -o",
            )


def expert_file(folder: Path, name: str) -> Path:
    """Where a merged model keeps an expert."""
    return folder / EXPERTS / f"{name}.safetensors"


def _sha256_of_general(folder: Path, record: SharedRecord) -> str:
    report = _report_in(folder)
    return record.files[WEIGHTS].sha256 if report is None else report.general


def _report_in(folder: Path) -> MergeReport | None:
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        return MergeReport.model_validate(jsonio.read(path))
    except (DataError, ValidationError):
        return None  # people may edit or drop it; nothing but defaults depends on it


def _fold_of(source: Path) -> str:
    """The fold a checkpoint lies in."""
    for part in reversed(source.parts):
        match = _FOLD.fullmatch(part)
        if match:
            return match[1]
    return ""


def _not_merged(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        "not a merged model",
        where=folder,
        why=why,
        fix="merge one first: medmoe merge-experts --general MODEL --expert NAME=MODEL -o MODEL",
    )
