"""`medmoe models import`: a model from elsewhere into the workspace, or a reason why not, and nothing in between.

Order of the checks: the names and sizes of the files, the record, every sha256, the tensors' headers against the
network that the record describes, then the model is loaded once. All of it happens in a temporary folder beside the
target, which is renamed at the end or removed. Nothing of the model is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.archives import unpack
from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.backbones import check_name
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder
from medmoe_cli.core.workflows.model_files.shared_model import (
    RECORD,
    SharedRecord,
    is_tensors,
    limit_of,
    read_record,
    verify_files,
)

if TYPE_CHECKING:
    from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel

# No width, depth or count of a real network is larger than this, unless one of its tensors is.
_LARGEST_SIZE = 4096
# What a network may hold beside its stored tensors: position tables and the like, made when it is built.
_UNSTORED_BYTES = 256 << 20
# Of a model folder in somebody's workspace: how it came there.
_NOT_SHARED = frozenset({"run.json"})
# What building a network from strange values ends in; pydantic's errors are ValueErrors.
_BUILD_ERRORS = (ValueError, TypeError, AssertionError, RuntimeError, ArithmeticError, LookupError)
_AGAIN = "ask for the model again, or use the version of medmoe that wrote it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A model that is in the workspace now, and how `-m` calls it."""

    name: str
    folder: Path
    method: str
    paper: str
    class_names: tuple[str, ...]
    prompt_kinds: tuple[str, ...]
    experts: tuple[str, ...]
    files: tuple[str, ...]
    weights_sha256: str


def import_model(
    *, workspace: Workspace, source: Path, reporter: Reporter, name: str | None = None, overwrite: bool = False
) -> Imported:
    """Bring a model into WORKSPACE/models.

    Args:
        workspace: receives models/NAME.
        source: a zip or a folder that `export_model` wrote.
        reporter: is told what happens.
        name: another name than the file's.
        overwrite: replace a model of that name.

    Raises:
        ConfigError: the name is taken or cannot be one.
        CheckpointError: the model is damaged, incomplete, or holds anything but a model.
        ResourceError: no room for it.
    """
    source = source.expanduser()
    name = name or (source.stem if source.suffix.lower() == ".zip" else source.resolve().name)
    check_name(name)
    folder = workspace.models / name
    arguments = {"source": source, "name": name, "overwrite": overwrite}
    with RunRecorder("models import", folder=None, reporter=reporter, arguments=arguments) as record:
        if folder.exists() and not overwrite:
            raise ConfigError(
                f"model '{name}' exists", where=folder, fix="choose another --name, or add --overwrite to replace it"
            )
        if folder.parent.is_dir():
            atomic.sweep(folder.parent)
        found: list[Imported] = []

        def fill(temporary: Path) -> None:
            files = unpack(source, temporary, limit_of=limit_of, passed_over=_NOT_SHARED)
            shared = read_record(temporary)
            verify_files(temporary, shared, frozenset(files))
            _require_plausible(temporary, shared)
            loaded = _load(temporary, workspace)
            found.append(_imported(loaded, shared, folder=folder, files=files))

        try:
            atomic.replace_dir(folder, fill)
        except CheckpointError as error:
            raise _of_source(error, source) from error
        record.info(f"{source} checked, loaded once and kept as {folder}")
        if source.is_file():
            record.add_input(source)
        record.folder = folder
        record.add_output(folder)
        return found[0]


def _load(folder: Path, workspace: Workspace) -> LoadedModel:
    """Load the staged model as prediction will; whatever its configuration asks for that cannot be is the model's."""
    from medmoe_cli.core.workflows.model_files.model_folder import load_model

    try:
        return load_model(folder, workspace=workspace)
    except ConfigError as error:
        raise CheckpointError(error.what, where=RECORD, why=error.why, fix=_AGAIN) from error
    except _BUILD_ERRORS as error:
        raise _cannot_build(error) from error


def _require_plausible(folder: Path, record: SharedRecord) -> None:
    """Build the network without memory first: a record that describes more than its tensors hold is refused.

    Otherwise four bytes of JSON could ask for all the memory there is.

    Raises:
        CheckpointError: it does, or no network can be built from it.
    """
    import torch

    from medmoe_cli.core.models.registry import method as find_method
    from medmoe_cli.core.nn.weights import tensor_shapes

    tensor_files = [folder / name for name in record.files if is_tensors(name)]
    shapes = [shape for path in tensor_files for shape in tensor_shapes(path).values()]
    stored = sum(path.stat().st_size for path in tensor_files)
    try:
        found = find_method(record.method)
        # As they were understood, not as they were written: "4e9" is a number, too.
        config = found.config_class().model_validate(record.model)
        plan = Plan.model_validate(record.plan)
        _refuse_large_numbers(config, plan, shapes)
        with torch.device("meta"):
            network = found.build(config, plan, restore=True)
    except ConfigError as error:
        raise CheckpointError(error.what, where=RECORD, why=error.why, fix=_AGAIN) from error
    except _BUILD_ERRORS as error:
        raise _cannot_build(error) from error
    tensors = [*network.parameters(), *network.buffers()]
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if wanted > 2 * stored + _UNSTORED_BYTES:
        raise CheckpointError(
            "a network that its weights cannot be of",
            where=RECORD,
            why=f"it would take {wanted >> 20} MiB, its tensors have {stored >> 20} MiB",
            fix=_AGAIN,
        )


def _refuse_large_numbers(config: Section, plan: Plan, shapes: Sequence[tuple[int, ...]]) -> None:
    """Even a network without memory takes time to build when it is told to have a billion blocks."""
    largest = max((side for shape in shapes for side in shape), default=0)
    limit = max(_LARGEST_SIZE, largest, len(shapes))
    sizes = plan.model_dump(include={"input_size", "num_experts", "context_slices"})
    for key, value in _integers({"model": config.model_dump(), "plan": sizes}):
        if abs(value) > limit:
            raise CheckpointError(
                "a network that its weights cannot be of",
                where=RECORD,
                why=f"{key} is {value}, the largest tensor has a side of {largest}",
                fix=_AGAIN,
            )


def _integers(value: Any, place: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _integers(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _integers(item, f"{place}[{index}]")


def _imported(loaded: LoadedModel, record: SharedRecord, *, folder: Path, files: tuple[str, ...]) -> Imported:
    return Imported(
        name=folder.name,
        folder=folder,
        method=loaded.plan.method,
        paper=loaded.card.paper,
        class_names=loaded.class_names,
        prompt_kinds=tuple(sorted(loaded.segmenter.prompt_kinds)),
        experts=record.experts,
        files=files,
        weights_sha256=loaded.sha256,
    )


def _cannot_build(error: Exception) -> CheckpointError:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    else:
        why = " ".join(str(error).split())[:200] or type(error).__name__
    return CheckpointError("cannot build the model", where=RECORD, why=why, fix=_AGAIN)


def _of_source(error: CheckpointError, source: Path) -> CheckpointError:
    """Speak of the file that the user gave, not of the temporary folder that is gone."""
    place = Path(error.where).name if error.where else ""
    inner = "" if place in {"", source.name} or place.startswith(atomic.TEMPORARY_PREFIX) else f"{place}: "
    return CheckpointError(error.what, where=source, why=f"{inner}{error.why}", fix=error.fix)
