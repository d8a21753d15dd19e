"""What a model is measured on: test rows of the task and windows of generic text, as token ids.

A probe is one sequence and the position from which its tokens are scored. The same probes go through the
original base, the reference and every bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgepeft.calibration.corpora import evaluation_text
from edgepeft.config.sections import Data
from edgepeft.data.formats import read_text
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row, Tool, ToolCall
from edgepeft.errors import EdgepeftError, InputError

TASK_ROWS = 48
"""Test rows whose every completion token is compared; exact match takes all rows."""
GENERIC_WINDOW = 256
GENERIC_WINDOWS = 8
MAX_PROBE_TOKENS = 2048
_OF_TOOLS = ("tools", "calls")


@dataclass(frozen=True)
class Probe:
    """``ids`` of one sequence; tokens from index ``start`` on are predicted and scored."""

    kind: Literal["task", "generic"]
    ids: list[int]
    start: int

    @property
    def scored(self) -> int:
        """How many tokens are scored."""
        return len(self.ids) - self.start

    @property
    def positions(self) -> slice:
        """Positions whose output predicts the scored tokens."""
        return slice(self.start - 1, len(self.ids) - 1)


@dataclass(frozen=True)
class Question:
    """A prompt and the completion that counts as right, for exact match; ``messages`` are the prompt's turns.

    ``tools`` may be called, and ``calls`` are what the completion calls.
    """

    prompt: list[int]
    completion: list[int]
    text: str
    where: str
    messages: list[Message] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON form; what is said of tools is left out where there are none."""
        return {
            name: value for name, value in asdict(self).items() if value or name not in _OF_TOOLS
        }


def task_questions(rows: Sequence[Row], prompter: Prompter, context: int) -> list[Question]:
    """Prompts and completions of the rows that have them and fit the context; plain text rows have none."""
    questions = []
    for row in rows:
        if row.messages is None:
            continue
        prompt, completion = prompter.split(row)
        if len(prompt) + len(completion) <= context:
            text = prompter.decode(completion).strip()
            turns = list(row.prompt_messages)
            calls = row.answer.get("tool_calls", []) if row.answer else []
            tools = [dict(tool) for tool in row.tools]
            questions.append(
                Question(prompt, completion, text, row.where, turns, list(tools), list(calls))
            )
    return questions


def check_asked(questions: Sequence[Question], prompter: Prompter, lead: Sequence[int]) -> None:
    """Make sure that a bundle asks with the very tokens that the reference was asked with, behind ``lead``.

    Raises EdgepeftError, naming the row, where its template or its tokenizer makes others of the same messages.
    """
    if "strftime_now" in (prompter.template_source or ""):
        return  # tomorrow it asks otherwise anyway, which the data check says
    for question in questions:
        asked = prompter.prompt(question.messages, question.tools) if question.messages else None
        if asked is not None and asked != [*lead, *question.prompt]:
            raise EdgepeftError(
                f"{question.where}: the bundle's tokenizer and template ask with other tokens than the reference "
                "was asked with, so its answer can't be compared"
            )


def task_probes(
    rows: Sequence[Row], questions: Sequence[Question], prompter: Prompter, context: int
) -> list[Probe]:
    """Probes on the task: completions of the first questions, or the first text rows themselves."""
    longest = min(context, MAX_PROBE_TOKENS)
    if questions:
        chosen = [q for q in questions if len(q.prompt) + len(q.completion) <= longest][:TASK_ROWS]
        return [Probe("task", q.prompt + q.completion, len(q.prompt)) for q in chosen]
    plain = [row for row in rows if row.messages is None][:TASK_ROWS]
    texts = [prompter.row(row).ids[: min(longest, GENERIC_WINDOW)] for row in plain]
    return [Probe("task", ids, 1) for ids in texts if len(ids) > 1]


def generic_probes(prompter: Prompter, context: int, text: str) -> list[Probe]:
    """Windows of generic text, each read from its own start."""
    ids = prompter.text(text)
    window = min(GENERIC_WINDOW, context)
    windows = [ids[i : i + window] for i in range(0, len(ids), window)][:GENERIC_WINDOWS]
    probes = [Probe("generic", part, 1) for part in windows if len(part) > 1]
    if not probes:
        raise InputError("data.generic: the text is too short to measure on")
    return probes


def test_rows(path: Path, data: Data) -> list[Row]:
    """The test rows that gates and report use. Raises InputError."""
    return data.test_rows(path)[: data.max_test_rows]


def generic_text(path: Path | None) -> str:
    """The generic text of a recipe, or the one edgepeft ships."""
    return evaluation_text() if path is None else read_text(path, "data.generic")
