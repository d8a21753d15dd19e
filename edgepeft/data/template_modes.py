"""The words that ``data.template`` may have in the place of a template's file, and the modes of a prompt."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["chat", "plain"]
"""A prompt goes through the model's chat template, or is plain text."""

MODES: tuple[Mode, ...] = get_args(Mode)

CHAT: Mode = "chat"

AUTO = "auto"
"""Chat where the model has a template, else plain."""

TEMPLATE_WORDS = (AUTO, *MODES)
