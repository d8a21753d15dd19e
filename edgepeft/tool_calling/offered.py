"""What an answer may call, or must."""

from __future__ import annotations

from dataclasses import dataclass

from edgepeft.data.rows import Tool
from edgepeft.data.tools import name_of, read_tools
from edgepeft.errors import InputError

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


def place_of(tool: Tool) -> str:
    """How a tool's arguments are named in errors."""
    return f"{WHERE}: the parameters of {name_of(tool)}"
