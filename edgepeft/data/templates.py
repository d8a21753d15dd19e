"""Rendering a chat template the way transformers renders it, without transformers.

A template is code that came with a model. It runs in ``sandbox``, which bounds what it reaches, takes and makes.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError

from edgepeft.data.look_alikes import texts_in
from edgepeft.data.rows import Message, Tool
from edgepeft.data.sandbox import Sandbox
from edgepeft.data.sandbox_budget import Budget, OutOfTime
from edgepeft.errors import InputError, one_line

MAX_STEPS = 200_000
"""Loop turns, calls, filters and comparisons of a rendering; a message takes some twenty."""
MAX_SECONDS, SECONDS_A_CHARACTER = 0.5, 2e-6
"""Processor seconds of a rendering, and what each character of its messages adds; a message takes about 1e-4.
What takes longer is tried once more."""
MAX_SOURCE = 128_000
"""Characters of a template; the longest in use have some thirty thousand."""
MAX_NODES = 8_000
"""Parts of a template's syntax tree, which take time to compile; the longest in use have some fifteen hundred."""
MAX_CHARS = 16_000_000
"""Characters that a rendering may have."""
_MAX_SAID = 300
"""Characters of a template's own message that are passed on."""
_MAX_DATE_FORMAT = 100


class ChatTemplate:
    """A compiled chat template. ``name`` is what error messages call it.

    ``written`` is the literal text in it, in pieces with a null character between.

    Raises InputError if ``source`` is no valid template.
    """

    def __init__(self, source: str, name: str) -> None:
        self.source = source
        self.name = name
        if len(source) > MAX_SOURCE:
            raise InputError(
                f"{name}: not a chat template: it has more than {MAX_SOURCE} characters"
            )
        self._sandbox = Sandbox(
            {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        )
        try:
            tree = self._sandbox.parse(source)
            if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_NODES:
                raise TemplateError(f"it has more than {MAX_NODES} parts")
            self.written = "\0".join(_literals(tree))
            self._template = self._sandbox.from_string(tree)
        except Exception as error:  # a template's syntax can fail in jinja and in Python's compiler
            raise InputError(f"{name}: not a valid chat template: {_said(error)}") from error

    def render(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, str],
        *,
        tools: Sequence[Tool] = (),
        generation_prompt: bool,
        where: str = "",
    ) -> str:
        """The conversation as one string.

        ``variables`` are the special tokens (``bos_token`` and so on), ``tools`` what may be called; ``where``
        names the row in errors. Raises InputError when the template refuses the messages, fails, or tries
        something the sandbox forbids.
        """
        given = sum(len(text) for text, _ in texts_in([*messages, *tools]))
        seconds = MAX_SECONDS + given * SECONDS_A_CHARACTER
        row = f" at {where}" if where else ""
        known: dict[str, object] = {
            **variables,
            "messages": list(messages),  # a list, not a tuple: templates add to it
            # Absent and none are the same to transformers, and an empty list is not.
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": generation_prompt,
        }
        try:
            try:
                return self._rendered(known, seconds)
            except OutOfTime:
                # The collection of a large process's garbage, which takes as long, may have fallen into it.
                again = {"messages": list(messages), "tools": list(tools) or None}
                return self._rendered(known | again, seconds)
        except SecurityError as error:
            raise InputError(
                f"{self.name}: the chat template uses what templates are not allowed{row}: "
                f"{_said(error)}; set data.template to a template you trust"
            ) from error
        except Exception as error:  # foreign code: whatever it raises is the template's failure
            kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
            raise InputError(
                f"{self.name}: the chat template fails on the messages{row}: "
                f"{kind}{_said(error)}; correct the row, or set data.template"
            ) from error

    def _rendered(self, known: Mapping[str, object], seconds: float) -> str:
        """The text. Raises OutOfTime after so many processor seconds, and whatever the template raises."""
        self._sandbox.spending.budget = Budget(MAX_STEPS, seconds)
        pieces: list[str] = []
        length = 0
        for piece in self._template.generate(known):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_CHARS:
                raise SecurityError(f"it writes more than {MAX_CHARS} characters")
        return "".join(pieces)


def _literals(tree: nodes.Template) -> list[str]:
    """The texts that a template holds, outside of expressions and in them."""
    found = [data.data for data in tree.find_all(nodes.TemplateData)]
    return found + [one.value for one in tree.find_all(nodes.Const) if isinstance(one.value, str)]


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > _MAX_DATE_FORMAT:
        raise SecurityError("it formats the date at absurd length")
    return datetime.datetime.now().strftime(form)


def _said(error: Exception) -> str:
    """An error's message in one line of bounded length: a template may have written it."""
    text = one_line(str(error)[: 10 * _MAX_SAID]) or type(error).__name__
    return text if len(text) <= _MAX_SAID else f"{text[:_MAX_SAID]}…"
