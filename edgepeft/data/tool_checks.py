"""What is to be said of rows that call tools: whether a template writes what they hold, and whether calls fit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Function, Message, Row, Tool
from edgepeft.data.tools import closed_parameters, name_of
from edgepeft.errors import InputError, one_line

_MEND = "set data.template to a template that does"
_OTHER = "edgepeft_other"


def refuse_unwritten(prompter: Prompter, row: Row) -> None:
    """Raise InputError for a template that leaves out a row's tools, calls or results."""
    if prompter.mode != "chat":
        return
    turns, write = row.messages or (), prompter.renderer.conversation
    own = write(turns, row.where, row.tools).text

    def alike(others: Sequence[Message], tools: Sequence[Tool]) -> bool:
        """Whether the template writes other turns, or other tools, as it writes the row's own."""
        try:
            return write(others, row.where, tools).text == own
        except InputError:
            return False  # it looks at them

    if row.tools and alike(turns, ()):
        raise InputError(f"{row.where}: the chat template writes no tools; {_MEND}")
    for place, turn in enumerate(turns):
        for what, changed in _changed(turn):
            if alike([*turns[:place], changed, *turns[place + 1 :]], row.tools):
                raise InputError(f"{row.where}: the chat template writes no {what}; {_MEND}")
    if row.answer is not None and "tool_calls" in row.answer:
        said = prompter.answer_text(row)
        if any(
            prompter.answer_text(row.with_answer(one)) == said for _, one in _changed(row.answer)
        ):
            raise InputError(
                f"{row.where}: the chat template writes a call of tools otherwise than it asks for an answer, so "
                f"that it would not be learned; {_MEND}"
            )


def call_warnings(rows: Iterable[Row]) -> list[str]:
    """What is to be said of calls that their tools' own schemas would not let through."""
    wrong = [(row.where, why) for row in rows if (why := _misfit(row)) is not None]
    if not wrong:
        return []
    where, why = wrong[0]
    return [
        f"{len(wrong)} rows call a tool with arguments that its parameters do not allow (first: {where}: {why}); "
        "they are learned, but no answer within the tools' grammar can be one of them"
    ]


def _misfit(row: Row) -> str | None:
    """What is wrong with the first call of a row that does not fit; None too where nothing can judge."""
    if not row.tools or importlib.util.find_spec("jsonschema") is None:
        return None
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schemas = {name_of(tool): closed_parameters(tool) for tool in row.tools}
    for turn in row.messages or ():
        for call in turn.get("tool_calls", ()):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            # A stranger's expression may take for ever on a stranger's text.
            schema = _without_patterns(schemas[name])
            try:
                Draft202012Validator.check_schema(schema)
                judge: Any = Draft202012Validator(schema, registry=Registry())
                error = next(judge.iter_errors(arguments), None)
            except (SchemaError, Unresolvable, RecursionError, ArithmeticError) as failed:
                return f"{name}: its parameters are no schema ({one_line(failed)[:120]})"
            if error is not None:
                return f"{name}: {one_line(error.message)[:120]}"
    return None


def _without_patterns(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_patterns(part)
            for key, part in value.items()
            if not (key == "pattern" and isinstance(part, str)) and key != "patternProperties"
        }
    return [_without_patterns(part) for part in value] if isinstance(value, list) else value


def _changed(turn: Message) -> Iterator[tuple[str, Message]]:
    """A turn with another call, other arguments, or another result, and what that is."""
    if turn["role"] == "tool":
        yield "results of tools", {**turn, "content": f"{turn['content']} {_OTHER}"}
    for call in turn.get("tool_calls", [])[:1]:
        function, rest = call["function"], turn["tool_calls"][1:]
        renamed: Function = {**function, "name": _OTHER}
        further: Function = {**function, "arguments": {**function["arguments"], _OTHER: _OTHER}}
        for what, other in (("calls of tools", renamed), ("arguments of calls", further)):
            yield what, {**turn, "tool_calls": [{**call, "function": other}, *rest]}
