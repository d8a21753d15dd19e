"""Calls of tools in answers: how templates write them, the grammar that bounds them, and reading them."""

from edgepeft.tool_calling.parsing import Parsed, parse
from edgepeft.tool_calling.syntax import CallSyntax, syntax_of

__all__ = ["CallSyntax", "Parsed", "parse", "syntax_of"]
