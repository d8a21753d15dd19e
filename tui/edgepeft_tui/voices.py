"""Who is heard in a conversation, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.models.tasks import EMBEDDING, GENERATION
from edgepeft_tui.plain_text import plain, visible_line

VOICE, _LONGEST = 8, 16
"""Cells of the head of an answer, at least and at most."""

PLACEHOLDERS = {
    GENERATION: "ask something, Enter sends it",
    EMBEDDING: "type a text, then another to compare with it",
}
"""The prompt's placeholder by task; for the others, that it takes a text."""


def width_of(voice: str) -> int:
    """Cells that the heads of its answers take."""
    voice = visible_line(voice)
    return max(VOICE, min(len(voice), _LONGEST) + 1)


def voiced(voice: str) -> str:
    """The head of an answer, as markup."""
    voice = visible_line(voice)
    short = voice if len(voice) <= _LONGEST else f"{voice[: _LONGEST - 1]}…"
    return f"[$text-accent]{plain(f'{short:<{width_of(voice)}}')}[/]"


def described(adapter: Mapping[str, Any]) -> str:
    """An adapter in a list: its name, its rank, what its gates say."""
    gates = adapter["gates"]
    verdict = "unmeasured" if gates is None else "passed" if gates == "passed" else "gates missed"
    rank = f"rank {adapter['rank']}, " if adapter["rank"] else ""
    return visible_line(f"{adapter['name']}  ({rank}{verdict})")


def figures(done: Mapping[str, Any]) -> str:
    """What an answer took, as markup."""
    cut = "" if done["finish_reason"] == "stop" else ", cut at the limit"
    return (
        f"{done['tokens']} tokens, {done['tokens_per_second']:.0f} tokens/s, first token "
        f"after {done['first_seconds']:.2f} s{cut}"
    )
