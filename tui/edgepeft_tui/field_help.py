"""Help on a recipe key: a line at the foot of the wizard, and all of it in a window."""

from __future__ import annotations

from textual.widget import Widget

from edgepeft_tui.fields import Field
from edgepeft_tui.plain_text import plain, plain_line
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.words import HANG

_LINES = 2
"""Lines that help has at the foot of the screen."""


def row_of(widget: Widget | None) -> FieldRow | None:
    """The row of the form that a widget stands in."""
    nodes = widget.ancestors_with_self if widget is not None else ()
    return next((node for node in nodes if isinstance(node, FieldRow)), None)


def help_line(field: Field | None, about_step: str, width: int) -> str:
    """What a field is for, or the step, as markup that fits into the foot of a screen so wide."""
    room = _LINES * (width - 2)
    if field is None:
        return plain(_cut(about_step.partition("\n\n")[0], room))
    about = f" ({field.about})" if field.about else ""
    words = _cut(f"{field.help}{about}", room - len(field.key) - 2)
    shown, muted = words[: len(field.help)], words[len(field.help) :]
    return f"[b]{plain(field.key)}[/b]  {plain(shown)}[$muted]{plain(muted)}[/]"


def help_text(field: Field, error: str) -> str:
    """All about a field as markup: what it is for, its default, its range, how else it is set, what is wrong."""
    lines = [plain(field.help), ""]
    facts = (
        ("default", field.default),
        ("range", field.range),
        ("choices", ", ".join(field.choices)),
        ("in YAML", field.key),
        ("as option", field.flag),
    )
    lines += [f"[$muted]{name:<10}[/]{HANG}{plain_line(said)}" for name, said in facts if said]
    if error:
        lines += ["", f"[$text-error]✗ {HANG}{plain_line(error)}[/]"]
    return "\n".join(lines)


def _cut(text: str, room: int) -> str:
    """Text that fits into so many cells, and where the rest of it is."""
    more = " … F1 shows more"
    # Words that wrap leave some cells empty at the ends of lines.
    kept = room - len(more) - 8
    return text if len(text) <= room - 8 else text[:kept].rpartition(" ")[0] + more
