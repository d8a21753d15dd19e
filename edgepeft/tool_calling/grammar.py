"""The grammar that bounds calls: names and arguments of the tools there are, between what the template writes.

Written in llguidance's dialect of Lark, https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from edgepeft.data.tools import closed_parameters, name_of
from edgepeft.guidance.grammar import Grammar
from edgepeft.tool_calling.keyed import KeyedRules
from edgepeft.tool_calling.lark import Lark
from edgepeft.tool_calling.offered import WHERE, Offered, place_of
from edgepeft.tool_calling.syntax import CallSyntax, JsonArguments


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
    before = f'({lark.literal(syntax.opening)} | "") ' if syntax.opening else ""
    begun = lark.literal(syntax.lead)
    trigger = parts(syntax.trigger)[:1]
    if offered.required:
        start(f"{before}{begun} {calls}")
    elif not trigger:
        # Calls begin like any JSON, so text is whatever begins otherwise, behind what all answers begin with too.
        first, opening = lark.pattern(syntax.lead.lstrip()[0]), syntax.opening.strip()
        unlike = rf"\s*{lark.pattern(opening)}\s*{first}(.|\n)*" if opening else None
        text = lark.terminal(rf"\s*[^\s{first}](.|\n)*", unlike)
        start(f"{before}({text} | {begun} {calls})")
    else:
        # The marker spelled with ordinary tokens would be read as a call as well.
        marker = syntax.trigger if isinstance(trigger[0], int) else trigger[0]
        word = lark.pattern(marker)
        text = lark.terminal(r"(.|\n)+", rf"(.|\n)*{word}(.|\n)*")
        others = [token for token in shown if token not in trigger]
        # Two texts beside each other could spell between them what neither may hold.
        further = f" ({lark.tokens(others)} {text}?)*" if others else ""
        lark.rule("free")(f"{text}?{further}")
        if isinstance(trigger[0], str):
            lead = lark.lazily(rf"(.|\n)*?{word}")
            begun = f"{lead} {lark.literal(syntax.lead.lstrip()[len(marker) :])}"
        start(f"free | {'free ' if syntax.prefix else before}{begun} {calls}")
    return Grammar.lark(lark.text, WHERE)


def _calls(lark: Lark, offered: Offered, syntax: CallSyntax) -> str:
    """The name of the rule of one call or several, from the first one's name to the end of all."""
    several = offered.several and syntax.joint is not None
    # Looked over by itself, what can't be held is told with the tool's name.
    schemas = [
        json.loads(Grammar.json_schema(closed_parameters(tool), place_of(tool)).text)
        for tool in offered.tools
    ]
    form = syntax.arguments
    if not isinstance(form, JsonArguments):
        return KeyedRules(lark, syntax, form, several).calls(offered.tools)
    between, style = lark.literal(form.between), (form.item, form.key)
    each = [
        f"{json.dumps(name_of(tool))} {between} {lark.json(schema, style)}"
        for tool, schema in zip(offered.tools, schemas, strict=True)
    ]
    lark.rule("call")(" | ".join(each))
    more = f" ({lark.literal(syntax.joint or '')} call)*" if several else ""
    lark.rule("calls")(f"call{more} {lark.literal(syntax.end)}")
    return "calls"
