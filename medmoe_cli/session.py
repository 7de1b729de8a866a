"""What every command receives: the console and the workspace chosen by the global options."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from medmoe_cli.console import Console
from medmoe_cli.core.base.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The global options, resolved."""

    console: Console
    workspace: Workspace


def session_of(context: typer.Context) -> Session:
    """The session of a command's context."""
    session = context.obj
    assert isinstance(session, Session)
    return session
