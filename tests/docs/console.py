"""The commands that README and docs show, as people would copy them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it: ``line`` without its prompt, comment and line breaks."""

    page: str
    line: str

    @property
    def id(self) -> str:
        """Its name among the tests."""
        return f"{self.page}: {self.line[:90]}"


def shown_commands() -> list[Shown]:
    """Every command of every console block, each once, in the order of the pages."""
    found: dict[str, Shown] = {}
    for page in PAGES:
        for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            joined = re.sub(r"\\\n\s*", "", block)
            for line in joined.splitlines():
                if line.startswith("$ "):
                    command = re.sub(r"\s+# .*$", "", line[2:]).strip()
                    found.setdefault(command, Shown(page.name, command))
    return list(found.values())
