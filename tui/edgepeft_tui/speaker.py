"""Who answers in a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE_OF = "base-of:"
"""In front of a bundle's path: not the bundle answers, but its base without adapter."""
NO_ADAPTER = "base"
"""What the runtime calls a hot-swap bundle without adapter."""


@dataclass(frozen=True)
class Speaker:
    """A bundle, with one of its adapters where it has several, or the bare base it began as."""

    bundle: Path
    adapter: str | None = None
    base: bool = False

    @property
    def place(self) -> str:
        """What the answering process is told to load."""
        return f"{BASE_OF}{self.bundle}" if self.base else str(self.bundle)


def speaker_of(bundle: Mapping[str, Any]) -> Speaker:
    """Who answers for an entry of ``build --json``: of a hot-swap bundle, the recipe's own adapter."""
    adapters = bundle.get("adapters") or [{}]
    return Speaker(Path(bundle["path"]), adapters[0].get("name"))
