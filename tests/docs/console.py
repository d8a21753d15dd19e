"""The commands that README and docs show, as people would copy them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of commands as a page shows it, each ``line`` without its prompt, comment and line breaks."""

    page: str
    lines: tuple[str, ...]

    @property
    def id(self) -> str:
        """Its name among the tests."""
        return f"{self.page}: {self.lines[0][:90]}"


def shown_blocks() -> list[Block]:
    """Every console block with commands, each once, in the order of the pages."""
    found: dict[tuple[str, ...], Block] = {}
    for page in PAGES:
        for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            joined = re.sub(r"\\\n\s*", "", block)
            lines = tuple(
                re.sub(r"\s+# .*$", "", line[2:]).strip()
                for line in joined.splitlines()
                if line.startswith("$ ")
            )
            if lines:
                found.setdefault(lines, Block(page.name, lines))
    return list(found.values())
