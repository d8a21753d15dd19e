"""How help lists commands: in groups, each with its whole first sentence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

BUILD, ADAPTERS, RUN, INSPECT = "Build", "Adapters", "Run", "Inspect"
GROUPS = (BUILD, ADAPTERS, RUN, INSPECT)
"""The groups in the order of the list."""
_OTHERS = "Commands"
_WHOLE = 1000
"""Characters of a sentence; none is longer, so that none is cut."""


def example(line: str) -> str:
    """The end of a command's help: how it is called."""
    return f"Example: {line}"


class GroupedCommands(TyperGroup):
    """Commands under the names of their groups, which typer calls panels."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the lists; a command without a group stands in the last."""
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in (*GROUPS, _OTHERS)}
        names = self.list_commands(ctx)
        width = max(map(len, names), default=0)
        for name in names:
            command = self.get_command(ctx, name)
            if command is None or command.hidden:
                continue
            group = getattr(command, "rich_help_panel", None)
            told = command.get_short_help_str(_WHOLE)
            groups[group if group in groups else _OTHERS].append((f"{name:<{width}}", told))
        for group, rows in groups.items():
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows)
