"""The `medmoe` executable: builds the command tree and maps errors to one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

import medmoe_cli
from medmoe_cli.commands.check import check
from medmoe_cli.commands.convert import convert
from medmoe_cli.commands.demo import demo
from medmoe_cli.commands.doctor import doctor
from medmoe_cli.commands.evaluate import evaluate
from medmoe_cli.commands.merge_experts import merge_experts
from medmoe_cli.commands.models import models
from medmoe_cli.commands.plan import plan
from medmoe_cli.commands.predict import predict
from medmoe_cli.commands.preprocess import preprocess
from medmoe_cli.commands.presets import presets
from medmoe_cli.commands.report import report
from medmoe_cli.commands.train import train
from medmoe_cli.console import Console
from medmoe_cli.core.base.errors import ConfigError, InterruptedRun, MedMoEError, ResourceError
from medmoe_cli.core.base.suggest import nearest
from medmoe_cli.core.base.workspace import find_workspace
from medmoe_cli.session import Session

EXIT_CODES = """Exit codes: 0 ok · 1 a bug · 2 usage or configuration · 3 data · 4 checkpoint or model ·
5 resources (disk, memory, dead worker) · 6 some cases failed · 130/143 interrupted, state saved."""

app = typer.Typer(
    name="medmoe",
    help="SAM-based mixture-of-experts segmentation of medical images: from a folder of scans to masks and numbers.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help"]},
)
for _verb in (convert, check, plan, preprocess, train, predict, evaluate, report, demo, doctor):
    app.command()(_verb)
app.command("merge-experts")(merge_experts)
app.add_typer(models, name="models")
app.add_typer(presets, name="presets")

# typer carries its own copy of click in some releases and uses the installed one in others; its BadParameter leads
# to the right family of exceptions in both.
_UsageError, _ClickException = typer.BadParameter.__mro__[1:3]

_GLOBAL_FLAGS = ("--json", "--no-color", "-v", "-q")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medmoe {medmoe_cli.__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", help="Say more; show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("-q", help="Say nothing but results, warnings and errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON value on stdout.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours (NO_COLOR is honoured too).")] = False,
    workspace: Annotated[
        Path | None,
        typer.Option(help="Where names resolve: datasets, runs, models. Else $MEDMOE_HOME, else ~/.medmoe."),
    ] = None,
) -> None:
    console = Console(
        verbosity=1 if verbose else -1 if quiet else 0,
        json_mode=json,
        color=not no_color and not os.environ.get("NO_COLOR"),
    )
    context.obj = Session(console=console, workspace=find_workspace(workspace))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # OpenMP's waiting threads spin by default: beside loader workers, or on a shared machine, they eat what they wait
    # for. Said before torch is imported, and only where the user has not said otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def _terminated(number: int, frame: FrameType | None) -> None:
    """A scheduler ends the job: finished cases are whole, the one at work leaves nothing. Training saves first."""
    raise InterruptedRun(
        "interrupted by SIGTERM", signal_number=number, fix="run the same command again; finished cases are kept"
    )


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    arguments = _hoist_globals(arguments)
    verbose = "-v" in arguments
    console = Console(color="--no-color" not in arguments and not os.environ.get("NO_COLOR"))
    try:
        code = app(args=arguments, prog_name="medmoe", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except MedMoEError as error:
        if verbose:
            traceback.print_exc()
        console.error(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        console.error(MedMoEError("interrupted", fix="run the same command again; finished cases are kept"))
        return 130
    except MemoryError:
        console.error(ResourceError("out of memory", fix="lower --workers or the batch size"))
        return ResourceError.exit_code
    except BrokenPipeError:
        # The reader of stdout (head, less) went away: nothing is wrong with the work.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last net: a bug becomes one line and exit code 1
        if isinstance(error, _ClickException):
            return _refuse(error, console)
        if verbose:
            traceback.print_exc()
        console.error(
            MedMoEError(
                f"a bug in medmoe ({type(error).__name__})",
                why=str(error),
                fix="run again with -v and report the traceback",
            )
        )
        return 1


def _hoist_globals(arguments: Sequence[str]) -> list[str]:
    """Let global options stand after the verb too: `medmoe check btcv --json`."""
    front: list[str] = []
    rest: list[str] = []
    waiting = False
    for position, argument in enumerate(arguments):
        if waiting:
            front.append(argument)
            waiting = False
        elif argument == "--":
            rest.extend(arguments[position:])
            break
        elif argument in _GLOBAL_FLAGS or argument.startswith("--workspace="):
            front.append(argument)
        elif argument == "--workspace":
            front.append(argument)
            waiting = True
        else:
            rest.append(argument)
    return front + rest


def _refuse(error: Any, console: Console) -> int:
    """Say what is wrong with the command line; `error` is of click's family."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "medmoe"
    message = error.format_message().rstrip(".")
    if type(error).__name__ == "NoArgsIsHelpError":
        return ConfigError.exit_code  # the help is printed already
    unknown: str | None = getattr(error, "option_name", None)
    if unknown is not None and context is not None and "No such option" in message:
        options = [name for parameter in context.command.params for name in parameter.opts]
        problem = _unknown("option", unknown, [*options, *_GLOBAL_FLAGS, "--workspace"], path)
    elif "No such command" in message and context is not None:
        problem = _unknown("command", message.split("'")[1], list(context.command.commands), path)
    else:
        problem = ConfigError(message, where=path, fix=f"{path} --help")
    console.error(problem)
    return problem.exit_code


def _unknown(kind: str, name: str, choices: Sequence[str], path: str) -> ConfigError:
    close = nearest(name, choices)
    return ConfigError(
        f"unknown {kind} '{name}'",
        where=path,
        why=f"did you mean '{close}'?" if close else f"{path} has none of that name",
        fix=f"{path} {close}" if close and kind == "command" else f"{path} --help",
    )


if __name__ == "__main__":
    main()
