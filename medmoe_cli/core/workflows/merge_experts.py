"""merge-experts: a general model and task experts become one model that adds skills and forgets nothing.

Checks come first and say everything at once; then data are prepared, the gate learns, tau is chosen where that was
asked for, everything is scored on held-out cases, and the model is written in one step at the very end.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError, ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.merge_report import GateTraining, MergeReport
from medmoe_cli.core.engine.device import Compute, resolve_compute
from medmoe_cli.core.models.sam_med3d_moe.merging import expert_names
from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe
from medmoe_cli.core.nn.weights import load_into, load_tensors
from medmoe_cli.core.workflows.merging.asking import CLICKS
from medmoe_cli.core.workflows.merging.assembly import Assembly, assemble
from medmoe_cli.core.workflows.merging.checks import check_parts, clips_alone
from medmoe_cli.core.workflows.merging.data import MergeData, common_fold, load_data, owned_data
from medmoe_cli.core.workflows.merging.gate import train_gate, work_folder
from medmoe_cli.core.workflows.merging.options import AUTO, MergeOptions, MergeResult, name_problems
from medmoe_cli.core.workflows.merging.parts import Growing, Part, load_part, read_merged, refuse_merged
from medmoe_cli.core.workflows.merging.scores import Scores, Scoring
from medmoe_cli.core.workflows.merging.tau import ChosenTau, choose_tau
from medmoe_cli.core.workflows.merging.write import Finished, write_merged
from medmoe_cli.core.workflows.model_files.run_record import RunRecorder

_FEATURES = "features"


def run_merge_experts(*, workspace: Workspace, options: MergeOptions, reporter: Reporter) -> MergeResult:
    """Merge experts with their general model, or add them to a merged one.

    Raises:
        ConfigError: options that do not go together, names, keys, data of one kind alone.
        CheckpointError: models that cannot be merged: every difference of every expert.
        DataError: datasets that cannot be used.
        ResourceError: disk, memory, a device that is not there.
        InterruptedRun: a signal; nothing was written.
    """
    _check_options(options)
    arguments = jsonio.plain(options)
    with RunRecorder("merge-experts", folder=None, reporter=reporter, arguments=arguments) as record:
        compute = resolve_compute(options.device, "32")
        growing, general = _general(options, workspace, record)
        target = growing.folder if growing is not None else options.output
        assert target is not None
        taken = tuple(growing.experts) if growing is not None else ()
        problems = name_problems([expert.name for expert in options.experts], taken=taken)
        raise_all(list[MedMoEError](problems))
        experts = tuple(
            load_part(expert.name, expert.model, workspace=workspace, reporter=record) for expert in options.experts
        )
        check_parts(general, experts)
        _warn_of_overlaps(general, experts, growing, record)
        assembly = assemble(general, experts, options, growing=growing)
        record.seed = assembly.resolved.train.seed
        owned = owned_data(options, general=general.plan, experts=experts, names=assembly.names, growing=growing)
        fold = options.fold or _fold(growing, (general, *experts), record)
        data = load_data(
            owned,
            workspace=workspace,
            plan=assembly.plan,
            names=assembly.names,
            fold=fold,
            choose_tau=options.tau == AUTO,
            workers=None if assembly.resolved.train.workers else 1,
            reporter=record,
        )
        gate, training = train_gate(
            assembly,
            data,
            compute=compute,
            work=work_folder(target),
            features=workspace.preprocessed / owned[0].dataset / _FEATURES,
            reporter=record,
        )
        assembly, chosen, scores = _measure(assembly, gate, data, options, compute, record)
        report = _report(general, experts, growing, data, chosen, training, scores)
        finished = Finished(assembly=assembly, gate=gate, predict=general.predict, report=report)
        record.folder = write_merged(finished, target, growing=growing)
        record.add_output(target)
        return MergeResult(
            folder=target,
            name=options.into or str(target),
            experts=assembly.names,
            added=tuple(expert.name for expert in experts),
            report=report,
        )


def full_model(assembly: Assembly, gate: dict[str, Tensor]) -> SamMed3dMoe:
    """The merged model with all its experts, for the report."""
    model = SamMed3dMoe.build(assembly.config, assembly.plan, restore=True)
    tensors = {**assembly.added_tensors(), **gate}
    for index, path in assembly.kept.items():
        tensors.update(expert_names(load_tensors(path), index))
    report = load_into(model, tensors, where="the merged models")
    if report.missing or report.unexpected:
        raise CheckpointError(
            "the parts do not make a model",
            why=f"{report.line()}: {', '.join((*report.missing, *report.unexpected)[:3])}",
            fix="use the version that wrote them",
        )
    return model.eval()


def _check_options(options: MergeOptions) -> None:
    problems: list[MedMoEError] = []
    if not options.experts:
        problems.append(ConfigError("no expert", where="--expert", fix="--expert NAME=MODEL"))
    if (options.output is None) == (options.into is None):
        problems.append(
            ConfigError(
                "where to?",
                why="-o makes a new model, --into adds to a merged one; give one of them",
                fix="-o FOLDER, or --into MERGED",
            )
        )
    if options.into is not None and options.general is not None:
        problems.append(
            ConfigError(
                "--general and --into", why="a merged model has its general model in it", fix="leave --general out"
            )
        )
    if options.into is None and options.general is None:
        problems.append(ConfigError("no general model", where="--general", fix="--general MODEL"))
    if options.output is not None and options.output.exists():
        problems.append(
            ConfigError(
                "the output exists",
                where=options.output,
                fix=f"choose another -o, or --into {options.output} to add to it",
            )
        )
    raise_all(problems)


def _general(options: MergeOptions, workspace: Workspace, reporter: Reporter) -> tuple[Growing | None, Part]:
    if options.into is not None:
        growing = read_merged(options.into, workspace=workspace)
        return growing, growing.general
    assert options.general is not None
    refuse_merged(options.general, workspace=workspace)
    return None, load_part("general", options.general, workspace=workspace, reporter=reporter)


def _warn_of_overlaps(general: Part, experts: tuple[Part, ...], growing: Growing | None, reporter: Reporter) -> None:
    """Class names that two experts have, and scans that the merged model prepares otherwise than an expert did."""
    owners = {name: entry.name for entry in general.config.experts for name in entry.classes} if growing else {}
    for expert in experts:
        for name in expert.plan.class_names:
            if name in owners:
                reporter.warn(f"class '{name}' of {expert.name} is {owners[name]}'s when it is asked for by name")
            owners.setdefault(name, expert.name)
        for one, other in zip(expert.plan.channels, general.plan.channels, strict=True):
            if clips_alone(one, other):
                reporter.warn(
                    f"{expert.name} learned from scans clipped to {one.low:g} to {one.high:g}; the merged model "
                    "prepares all scans as the general model does, without clipping"
                )


def _fold(growing: Growing | None, parts: tuple[Part, ...], reporter: Reporter) -> str:
    if growing is not None and growing.report is not None and growing.report.data:
        return growing.report.data[0].fold
    return common_fold(parts, reporter)


def _measure(
    assembly: Assembly,
    gate: dict[str, Tensor],
    data: MergeData,
    options: MergeOptions,
    compute: Compute,
    reporter: Reporter,
) -> tuple[Assembly, ChosenTau, Scores]:
    """Choose tau where that was asked for, and score the model that is written."""
    merged = full_model(assembly, gate)
    scoring = Scoring(
        merged,
        config=assembly.config,
        plan=assembly.plan,
        data=data,
        compute=compute,
        limit=assembly.resolved.train.validation_limit,
        reporter=reporter,
    )
    why = "--tau" if isinstance(options.tau, float | int) else "the configuration's"
    chosen = ChosenTau(tau=assembly.config.tau, why=why, curve=())
    if options.tau == AUTO:
        chosen = choose_tau(scoring.queries_for_tau())
        assembly = replace(assembly, config=assembly.config.model_copy(update={"tau": chosen.tau}))
        scoring.use(assembly.config)
    return assembly, chosen, scoring.scores()


def _report(
    general: Part,
    experts: tuple[Part, ...],
    growing: Growing | None,
    data: MergeData,
    chosen: ChosenTau,
    training: GateTraining,
    scores: Scores,
) -> MergeReport:
    known = {} if growing is None or growing.report is None else growing.report.experts
    earlier = {} if growing is None else {name: known.get(name, "") for name in growing.experts}
    return MergeReport(
        general=general.sha256,
        experts={**earlier, **{expert.name: expert.sha256 for expert in experts}},
        data=data.facts,
        grid="network",
        clicks=CLICKS,
        tau=chosen.tau,
        tau_why=chosen.why,
        tau_curve=chosen.curve,
        gate=training,
        tasks=scores.tasks,
        forgetting=scores.forgetting,
        gain_kept=scores.gain_kept,
        routing=scores.routing,
        opening=scores.routing.opening,
        left_out=scores.left_out,
    )
