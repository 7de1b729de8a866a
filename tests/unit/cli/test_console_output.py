from __future__ import annotations

import json

import pytest

from medmoe_cli.console import Console
from medmoe_cli.core.base.errors import DataError, ProblemList


def test_json_mode_prints_one_value_and_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json_mode=True)
    console.table("t", ["a"], [[1]])
    console.print("text")
    console.json({"value": float("nan")})
    console.next_command("medmoe demo")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"value": None}
    assert "next: medmoe demo" in captured.err


def test_tables_show_missing_values_and_round_floats(capsys: pytest.CaptureFixture[str]) -> None:
    Console(color=False).table("t", ["name", "x"], [["a", 0.123456], ["b", None]])
    out = capsys.readouterr().out
    assert "0.123" in out
    assert "0.1234" not in out
    assert "–" in out


def test_every_problem_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    Console(color=False).error(ProblemList([DataError("one", fix="do a"), DataError("two [red]", fix="do b")]))
    assert capsys.readouterr().err.splitlines() == ["error: one. fix: do a", "error: two [red]. fix: do b"]


def test_fast_cases_do_not_flood_and_failures_always_show(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(color=False)
    console.start("check", 100)
    for number in range(100):
        console.advance(
            f"case{number}", status="failed" if number == 50 else "ok", detail="broken" if number == 50 else ""
        )
    console.finish()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 10
    assert any("case50 failed broken" in line for line in lines)
    assert "[100/100] case99 ok" in lines[-1]


def test_quiet_says_nothing_but_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(verbosity=-1, color=False)
    console.start("check", 1)
    console.advance("a")
    console.info("hello")
    console.next_command("medmoe demo")
    console.warn("careful")
    assert capsys.readouterr().err == "warning: careful\n"
