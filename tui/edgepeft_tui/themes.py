"""The wizard's own two themes; Textual's come besides."""

from __future__ import annotations

from textual.theme import Theme

DARK = "edgepeft-dark"
LIGHT = "edgepeft-light"

THEMES = (
    Theme(
        name=DARK,
        dark=True,
        primary="#5fb3b3",
        secondary="#8fa9c9",
        accent="#e6b450",
        success="#86c17b",
        warning="#e0a458",
        error="#e5737a",
        foreground="#d8dee4",
        background="#12171c",
        surface="#182026",
        panel="#212b33",
    ),
    Theme(
        name=LIGHT,
        dark=False,
        primary="#0f6f78",
        secondary="#3f5f8a",
        accent="#8a5a00",
        success="#2b6e2f",
        warning="#8f5400",
        error="#b3261e",
        foreground="#1d2429",
        background="#f7f7f4",
        surface="#eeeeea",
        panel="#e1e3df",
    ),
)
