"""What a loaded model may call: its template's way of writing calls, what bounds them, and reading them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Tool
from edgepeft.data.tools import read_tools
from edgepeft.errors import InputError
from edgepeft.guidance.grammar import Grammar
from edgepeft.runtime.bounding import Bounding
from edgepeft.tool_calling.grammar import call_grammar
from edgepeft.tool_calling.offered import WHERE, Offered
from edgepeft.tool_calling.parsing import Parsed, begins_call, parse
from edgepeft.tool_calling.syntax import CallSyntax, syntax_of


class ToolUse:
    """Calls of tools in the answers of one model. Safe to use from several threads."""

    def __init__(self, prompter: Prompter, bounding: Bounding, name: str) -> None:
        """``name`` is the bundle's, for errors."""
        self._prompter = prompter
        self._bounding = bounding
        self._name = name

    @cached_property
    def _found(self) -> CallSyntax | None:
        return syntax_of(self._prompter)

    @property
    def readable(self) -> bool:
        """Whether the model's template writes calls that can be read back."""
        return self._found is not None

    @property
    def syntax(self) -> CallSyntax:
        """How the model writes calls. Raises InputError where its template writes none."""
        found = self._found
        if found is None:
            raise InputError(
                f"{WHERE}: the chat template of {self._name} writes no calls that can be read back; build it "
                "with data.template set to one that does"
            )
        return found

    def grammar(self, offered: Offered) -> Grammar:
        """What bounds an answer that may call ``offered``, or must.

        Raises InputError for a tool whose arguments can't be bounded, MissingError without llguidance.
        """
        vocabulary = self._bounding.vocabulary
        return call_grammar(offered, self.syntax, vocabulary.parts, vocabulary.shown())

    def begun(self, ids: Iterable[int]) -> bool:
        """Whether an answer of token ``ids`` has what a call begins with. Raises as ``syntax`` does."""
        return begins_call(self._prompter.spelled(ids), self.syntax)

    def parsed(self, ids: Iterable[int], tools: Sequence[Tool] = ()) -> Parsed:
        """An answer of token ``ids`` taken apart into text and calls. Raises InputError as ``syntax`` does."""
        return parse(self._prompter.spelled(ids), self.syntax, read_tools(list(tools), WHERE))
