"""The commands that README and docs show, as people would copy them.

A comment before a block says how it is tested: ``<!-- run: model=tiny -->`` has it run with what stands in for a
real model (``STAND_INS``), ``<!-- parsed only: why -->`` has its options and files checked and no more. Any other
block is run as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(
    r"(?:^<!-- (?P<kind>run|parsed only): (?P<said>[^>]*) -->\n+)?"
    r"^```console\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"^<!-- ?(run|parsed)\b", re.MULTILINE)

STAND_INS: Mapping[str, Mapping[str, str]] = {
    "model=tiny": {"smollm2-135m-instruct": "./my-model"},
    "recipe=tiny": {"tickets.yaml": "recipe.yaml", "runs/tickets/": "runs/recipe/"},
    "gates=none": {
        "edgepeft build": "edgepeft build --set gates.min_reference_gain=null --set "
        "gates.max_exact_match_drop=null --set gates.max_task_kl=null"
    },
}
"""What a block is run with in place of what it shows, by the words of its comment."""


@dataclass(frozen=True)
class Block:
    """A block of commands as a page shows it, each ``line`` without its prompt, comment and line breaks.

    ``stand_ins`` are words of ``STAND_INS``, ``parsed_only`` is why it is not run.
    """

    page: str
    lines: tuple[str, ...]
    stand_ins: tuple[str, ...] = ()
    parsed_only: str | None = None

    @property
    def id(self) -> str:
        """Its name among the tests."""
        return f"{self.page}: {self.lines[0][:90]}"

    @property
    def run_as(self) -> tuple[str, ...]:
        """Its lines with what stands in for what they name."""
        lines = self.lines
        for word in self.stand_ins:
            for shown, ours in STAND_INS[word].items():
                lines = tuple(line.replace(shown, ours) for line in lines)
        return lines


def shown_blocks() -> list[Block]:
    """Every console block with commands, each once, in the order of the pages."""
    found: dict[tuple[str, ...], Block] = {}
    for page in PAGES:
        for block in blocks_of(page.name, page.read_text(encoding="utf-8")):
            found.setdefault(block.lines, block)
    return list(found.values())


def blocks_of(page: str, text: str) -> list[Block]:
    """The console blocks of one page. Raises ValueError for a comment that no block follows."""
    blocks = []
    matches = list(_BLOCK.finditer(text))
    if len(_MARK.findall(text)) != sum(match["kind"] is not None for match in matches):
        raise ValueError(
            f"{page}: a comment on a console block is misspelt or stands before no block"
        )
    for match in matches:
        joined = re.sub(r"\\\n\s*", "", match["text"])
        lines = tuple(
            re.sub(r"\s+# .*$", "", line[2:]).strip()
            for line in joined.splitlines()
            if line.startswith("$ ")
        )
        if not lines:
            continue
        if match["kind"] == "run":
            blocks.append(Block(page, lines, tuple(match["said"].split())))
        else:
            blocks.append(Block(page, lines, parsed_only=match["said"]))
    return blocks
