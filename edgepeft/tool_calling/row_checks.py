"""Rows whose calls are written so that they come out otherwise than they went in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgepeft.data.prompt import Prompter
from edgepeft.data.report import DataReport
from edgepeft.data.rows import Row
from edgepeft.tool_calling.parsing import parse
from edgepeft.tool_calling.syntax import CallSyntax, syntax_of
from edgepeft.utils.alike import same_json


def with_unread_calls(report: DataReport, prompter: Prompter, rows: Iterable[Row]) -> DataReport:
    """``report`` with what is to be said of calls of ``rows`` that are not read back as they are."""
    return replace(report, warnings=(*report.warnings, *unread_calls(prompter, rows)))


def unread_calls(prompter: Prompter, rows: Iterable[Row]) -> list[str]:
    """What is to be said of rows whose written answer is not read back as its text and its calls."""
    calling = [
        row for row in rows if row.answer is not None and (row.tools or "tool_calls" in row.answer)
    ]
    if not calling:
        return []
    syntax = syntax_of(prompter)
    if syntax is None:
        return [
            f"{len(calling)} rows have tools, and the chat template writes calls in no way that can be read "
            "back: they are learned and compared as text, and no bundle answers with calls"
        ]
    wrong = [(row.where, why) for row in calling if (why := _otherwise(prompter, syntax, row))]
    if not wrong:
        return []
    where, why = wrong[0]
    return [
        f"the chat template writes {len(wrong)} answers with tools so that they are read back otherwise (first: "
        f"{where}: {why}); that is what is learned, measured and answered"
    ]


def _otherwise(prompter: Prompter, syntax: CallSyntax, row: Row) -> str:
    """What comes of a row's answer that is not the answer; empty where nothing does."""
    answer = row.answer
    assert answer is not None
    parsed = parse(prompter.answer_text(row), syntax, row.tools)
    wanted = answer.get("tool_calls", [])
    functions = [[dict(call["function"]) for call in calls] for calls in (wanted, parsed.calls)]
    if not same_json(*functions):
        return "its calls" if wanted else "a call where there is none"
    return (
        "" if parsed.content.strip() == answer["content"].strip() else "the text beside its calls"
    )
