"""Links of the pages that lie beside docs/ lead somewhere; those within docs/ are checked by make docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.console import ROOT

PAGES = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *(ROOT / name / "README.md" for name in ("benchmarks", "samples")),
)
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)\s]+)\)")


def lost_links(page: Path, text: str) -> Iterator[str]:
    """The links of a page that name no file, or no heading of it."""
    for link in _LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(lost_links(page, page.read_text(encoding="utf-8"))) == []


def test_a_link_to_nothing_is_told() -> None:
    text = "[a](docs/nowhere.md) [b](docs/rows.md#nowhere) [c](docs/rows.md#held-out-rows)"
    assert list(lost_links(ROOT / "README.md", text)) == [
        "docs/nowhere.md",
        "docs/rows.md#nowhere",
    ]


def test_the_front_door_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    led = {Path(link.partition("#")[0]).name for link in _LINK.findall(text)}
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    within = {Path(link.partition("#")[0]).name for link in _LINK.findall(index)}
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages - within == set()
    assert pages - led == {"commands-reference.md"}
