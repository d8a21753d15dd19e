"""Which fields of the recipe hold paths, and what they lead to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepeft.data.formats import SUFFIXES
from edgepeft_tui.typed_paths import is_there


@dataclass(frozen=True)
class PathKind:
    """Files with one of ``suffixes``, and folders in which one of ``markers`` lies."""

    suffixes: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()

    def fits(self, path: Path) -> bool:
        """Whether a path can be taken; other folders only lead on."""
        if path.is_dir():
            return any(is_there(path / name) for name in self.markers)
        return self.fits_file(path.name)

    def fits_file(self, name: str) -> bool:
        """Whether a file that is called so can be taken."""
        return name.lower().endswith(self.suffixes)


_ADAPTER = PathKind(markers=("adapter_config.json", "config.json"))
_MODEL = PathKind((".gguf",), ("config.json", "adapter_config.json"))
_ROWS = PathKind(SUFFIXES)
_TEXT = PathKind((".txt", ".md"))
_KINDS: Mapping[str, PathKind] = {
    "model": _MODEL,
    "data.train": _ROWS,
    "data.test": _ROWS,
    "data.generic": _TEXT,
    "quantize.calibration.text": _TEXT,
    "answer.json_schema": PathKind((".json",)),
    "adapter": _ADAPTER,
    "adapter.path": _ADAPTER,
    "adapter.rows": _ROWS,
    "adapters.path": _ADAPTER,
    "adapters.test": _ROWS,
}


def path_kind(key: str) -> PathKind | None:
    """What the path at a key leads to, parts of lists included; None for a key that holds no path."""
    return _KINDS.get(re.sub(r"\.\d+\.", ".", key))
