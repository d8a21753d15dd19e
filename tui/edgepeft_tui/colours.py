"""Colours of any theme, moved until they can be read: text at 4.5 to 1 and more, edges and bars at 3 to 1.

Ratios are those of WCAG 2.2 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio). A theme names some colours; what
the wizard paints with is computed from them here, so every theme is held to the same bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from rich.color import Color as RichColor
from rich.color import ColorSystem
from textual.color import BLACK, WHITE, Color

TEXT_CONTRAST = 4.5
"""What text needs against the colour behind it (WCAG 1.4.3)."""
PART_CONTRAST = 3.0
"""What an edge, a bar or a sign of focus needs against what is around it (WCAG 1.4.11)."""

Seen = Callable[[Color], Color]

_STEPS = 50
_TEXTS = (
    "foreground",
    *(f"text-{name}" for name in ("primary", "secondary", "accent", "success", "warning", "error")),
)
"""Variables of Textual that text is painted in."""


@cache
def luminance(colour: Color) -> float:
    """Relative luminance, 0 for black to 1 for white."""
    channels = []
    for value in colour.rgb:
        share = value / 255
        channels.append(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4)
    red, green, blue = channels
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@cache
def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of two opaque colours, 1 for equal ones to 21 for black and white."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@cache
def of_256(colour: Color) -> Color:
    """What a terminal of 256 colours makes of a colour."""
    taken = RichColor.from_rgb(*colour.rgb).downgrade(ColorSystem.EIGHT_BIT)
    return Color(*taken.get_truecolor())


def as_it_is(colour: Color) -> Color:
    """What a terminal of all colours makes of a colour."""
    return colour


def readable(colour: Color, grounds: Iterable[Color], least: float, seen: Seen = as_it_is) -> Color:
    """The colour nearest to ``colour``, towards white or black, that has ``least`` against all ``grounds``.

    ``seen`` is what the terminal makes of a colour.
    """
    grounds = [seen(ground) for ground in grounds]

    def worst(of: Color) -> float:
        return min(contrast(seen(of), ground) for ground in grounds)

    if worst(colour) >= least:
        return colour
    end = max((WHITE, BLACK), key=worst)
    for step in range(1, _STEPS + 1):
        moved = colour.blend(end, step / _STEPS, 1.0)
        if worst(moved) >= least:
            return moved
    return end


def readable_variables(variables: Mapping[str, str], seen: Seen = as_it_is) -> dict[str, str]:
    """The CSS variables of a theme with every colour that the wizard paints with made readable.

    Adds ``field`` and ``field-focus`` (behind what is typed), ``row`` and ``row-focus`` (a chosen line),
    ``button``, ``muted`` (lesser words, edges of fields), ``rule`` (lines between boxes, which nobody needs to
    see), ``bar``, ``thumb`` (of scrollbars), ``focus`` (what only the widget in focus has) and ``on-focus`` (text
    on it). ``seen`` is what the terminal makes of a colour.
    """
    ink, ground, primary = (
        Color.parse(variables[n]) for n in ("foreground", "background", "primary")
    )
    surfaces = [Color.parse(variables[name]) for name in ("background", "surface", "panel")]
    behind = {
        "field": ground.blend(ink, 0.07, 1.0),
        "field-focus": ground.blend(primary, 0.25, 1.0),
        "row": ground.blend(primary, 0.14, 1.0),
        "row-focus": ground.blend(primary, 0.28, 1.0),
        "button": ground.blend(ink, 0.16, 1.0),
    }
    grounds = [*surfaces, *behind.values()]
    rule = ground.blend(ink, 0.25, 1.0)
    made = {
        name: readable(Color.parse(variables[name]), grounds, TEXT_CONTRAST, seen)
        for name in _TEXTS
    }
    muted = readable(ink.blend(ground, 0.35, 1.0), grounds, TEXT_CONTRAST, seen)
    focus = readable(primary, [*grounds, rule], PART_CONTRAST, seen)
    focus = readable(focus, surfaces, TEXT_CONTRAST, seen)
    made |= behind | {
        "muted": muted,
        "rule": rule,
        "bar": readable(primary, grounds, PART_CONTRAST, seen),
        "thumb": readable(rule, surfaces, PART_CONTRAST, seen),
        "focus": focus,
        "on-focus": max((WHITE, BLACK), key=lambda end: contrast(seen(end), seen(focus))),
    }
    hexes = {name: colour.hex6 for name, colour in made.items()}
    return {**variables, **hexes, **_for_textual({**variables, **hexes})}


def _for_textual(made: Mapping[str, str]) -> dict[str, str]:
    """Textual's own variables in the wizard's colours, for what its widgets paint by themselves."""
    ink, muted, row, chosen = (made[n] for n in ("foreground", "muted", "row", "row-focus"))
    return {
        "text": ink,
        "text-muted": muted,
        "text-disabled": muted,
        "foreground-muted": muted,
        "foreground-disabled": muted,
        "border": made["focus"],
        "border-blurred": muted,
        "block-cursor-background": chosen,
        "block-cursor-foreground": ink,
        "block-cursor-blurred-background": row,
        "block-cursor-blurred-foreground": ink,
        "button-foreground": ink,
        "footer-background": made["panel"],
        "footer-item-background": "transparent",
        "footer-key-background": "transparent",
        "footer-description-background": "transparent",
        "footer-foreground": ink,
        "footer-description-foreground": ink,
        "footer-key-foreground": made["text-accent"],
        "input-cursor-background": ink,
        "input-selection-background": chosen,
        "input-selection-foreground": ink,
        "scrollbar": made["thumb"],
        "scrollbar-hover": made["thumb"],
        "scrollbar-active": made["focus"],
    }
