"""Chat templates as they are in use: those that TRL brings along, each with a tokenizer that knows what it
writes.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from tests.tiny import write_tiny_tokenizer

_MARKERS = re.compile(
    r"<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>|</?[a-z_]+>|\[/?[A-Z_]{3,}\]|<\|[a-z]+>|<[a-z]+\|>"
)
_OF_TEXT = ("<think>", "</think>")
"""Markers that tokenizers list as ordinary added tokens: a model says them."""


def names() -> list[str]:
    """The templates' names."""
    folder = resources.files("trl") / "chat_templates"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".jinja"))


def source(name: str) -> str:
    """A template's text."""
    return (resources.files("trl") / "chat_templates" / name).read_text(encoding="utf-8")


def markers(text: str) -> list[str]:
    """What a template writes that looks like a control token."""
    return list(dict.fromkeys(found for found in _MARKERS.findall(text) if found not in _OF_TEXT))


def write_folder(folder: Path, name: str) -> Path:
    """A tokenizer's folder with the template and its markers as special tokens."""
    text = source(name)
    return write_tiny_tokenizer(folder, template=text, extra=tuple(markers(text)), bos=True)
