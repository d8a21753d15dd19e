"""The grammar that bounds calls: names and arguments of the tools there are, between what the template writes.

Written in llguidance's dialect of Lark, https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.data.rows import Tool
from edgepeft.data.tools import name_of, parameters_of, read_tools
from edgepeft.errors import InputError
from edgepeft.guidance.grammar import JSON_ESCAPES, Grammar
from edgepeft.tool_calling.keyed import KeyedRules
from edgepeft.tool_calling.lark import Lark
from edgepeft.tool_calling.syntax import CallSyntax, JsonArguments

WHERE = "tools"


@dataclass(frozen=True)
class Offered:
    """What may be called: any of ``tools``; ``required`` says whether something must be, ``several`` whether more
    than one thing may. Raises InputError for what defines no tools.
    """

    tools: tuple[Tool, ...]
    required: bool = False
    several: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", read_tools(list(self.tools), WHERE))

    def only(self, name: str) -> Offered:
        """The same where one tool must be called. Raises InputError for one that is not there."""
        kept = tuple(tool for tool in self.tools if name_of(tool) == name)
        if not kept:
            raise InputError(f"{WHERE}: there is no tool {name[:80]!r} to choose")
        return Offered(kept, required=True, several=self.several)


def call_grammar(
    offered: Offered,
    syntax: CallSyntax,
    parts: Callable[[str], list[str | int]],
    shown: Sequence[int],
) -> Grammar:
    """What bounds an answer that may call, or must.

    ``parts`` takes a literal apart into text and ids of control tokens, ``shown`` are ids of control tokens that
    answers may hold. Raises InputError for arguments that can't be bounded, by the name of their tool;
    MissingError without llguidance.
    """
    lark = Lark(parts)
    start = lark.rule("start")
    calls = _calls(lark, offered, syntax)
    opening = f"{lark.literal(syntax.opening)} | " if syntax.opening else ""
    begun = lark.literal(syntax.lead)
    if offered.required:
        start(f'({opening}"") {begun} {calls}' if opening else f"{begun} {calls}")
        return Grammar.lark(lark.text, WHERE)
    trigger = parts(syntax.trigger)[:1] if syntax.trigger else []
    before = f'({opening}"") ' if opening else ""
    if not trigger:
        # Calls begin like any JSON, so text is whatever begins otherwise, behind what all answers begin with too.
        first = lark.pattern(syntax.lead.lstrip()[0])
        start(f"{before}(TEXT | {begun} {calls})")
        begins = rf"\s*{lark.pattern(syntax.opening.strip())}\s*{first}(.|\n)*"
        lark.terminal(
            "TEXT", rf"\s*[^\s{first}](.|\n)*", begins if syntax.opening.strip() else None
        )
        return Grammar.lark(lark.text, WHERE)
    others = shown_without(shown, trigger)
    # Two texts beside each other could spell between them what neither may hold.
    lark.rule("free")(f"TEXT? ({lark.tokens(others)} TEXT?)*" if others else "TEXT?")
    before = "free " if syntax.prefix else before
    if isinstance(trigger[0], int):
        start(f"free | {before}{begun} {calls}")
        word = lark.pattern(syntax.trigger)
    else:
        word = lark.pattern(trigger[0])
        tail = syntax.lead.lstrip()[len(trigger[0]) :]
        lead = lark.lazily(rf"(.|\n)*?{word}")
        start(f"free | {before}{lead} {lark.literal(tail)} {calls}")
    # Spelled with ordinary tokens it would be read as a call as well.
    lark.terminal("TEXT", r"(.|\n)+", rf"(.|\n)*{word}(.|\n)*")
    return Grammar.lark(lark.text, WHERE)


def shown_without(shown: Sequence[int], trigger: Sequence[str | int]) -> list[int]:
    """Control tokens that text may hold: all that answers show but what begins a call."""
    return [token for token in shown if token not in trigger]


def _calls(lark: Lark, offered: Offered, syntax: CallSyntax) -> str:
    """The name of the rule of one call or several, from the first one's name to the end of all."""
    several = offered.several and syntax.joint is not None
    if not isinstance(syntax.arguments, JsonArguments):
        for tool in offered.tools:
            Grammar.json_schema(bounded(tool), place_of(tool))
        return KeyedRules(lark, syntax, syntax.arguments, several).calls(offered.tools)
    form = syntax.arguments
    style = {
        "whitespace_flexible": False,
        "item_separator": form.item,
        "key_separator": form.key,
        "json_allowed_escapes": JSON_ESCAPES,
    }
    each = []
    for tool in offered.tools:
        # Looked over by itself, what can't be held is told with the tool's name.
        schema = json.loads(Grammar.json_schema(bounded(tool), place_of(tool)).text)
        name, between = json.dumps(name_of(tool)), lark.literal(form.between)
        each.append(f"{name} {between} {lark.json({**schema, 'x-guidance': style})}")
    call = lark.rule("call")
    call(" | ".join(each))
    more = f" ({lark.literal(syntax.joint or '')} call)*" if several else ""
    lark.rule("calls")(f"call{more} {lark.literal(syntax.end)}")
    return "calls"


def place_of(tool: Tool) -> str:
    """How a tool's arguments are named in errors."""
    return f"{WHERE}: the parameters of {name_of(tool)}"


def bounded(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments; what it doesn't have is not called with, unless it says so."""
    return {"additionalProperties": False, **parameters_of(tool)}
