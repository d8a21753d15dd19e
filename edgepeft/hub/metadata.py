"""The metadata of a card: what stands in YAML at the top of a repository's README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError
from edgepeft.utils.files import read_text_file
from edgepeft.utils.scalars import TextProblem
from edgepeft.utils.yaml_text import read_yaml

CARD = "README.md"
_BYTES = 1 << 20
_LICENSE = ("license", "license_name", "license_link")


def front_matter(card: str) -> dict[str, Any]:
    """The metadata at the top of a card; empty where there is none that can be read."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(?:\n|$)", card, re.DOTALL)
    try:
        value = read_yaml(found[1]) if found else {}
    except TextProblem:
        return {}
    return value if isinstance(value, dict) else {}


def read_card(folder: Path) -> str:
    """The card in a folder; empty where there is none that can be read."""
    try:
        return read_text_file(folder / CARD, _BYTES)
    except (FileNotFoundError, InputError):
        return ""


def license_of(folder: Path) -> Mapping[str, str]:
    """The keys by which the card in a folder states a license; empty where it states none."""
    said = front_matter(read_card(folder))
    return {key: said[key] for key in _LICENSE if isinstance(said.get(key), str)}
