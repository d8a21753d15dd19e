"""What an adapter's folder says of itself, read once: its configuration and what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.adapters.config import carried_as, read_adapter_config
from edgepeft.adapters.folder import find_adapter
from edgepeft.adapters.overview import adapter_notes
from edgepeft.adapters.provenance import ASSUMED, Provenance, read_provenance
from edgepeft.hub.ids import origin_of, without_revision


@dataclass(frozen=True)
class AdapterHeader:
    """An adapter that a recipe names: ``named`` may hold a trainer's checkpoints, of which ``path`` is one."""

    named: Path
    path: Path
    config: Mapping[str, Any]
    provenance: Provenance

    @classmethod
    def read(cls, named: Path, grid: str = "auto") -> AdapterHeader:
        """Read a folder; ``grid`` is the recipe's ``merge.grid``. Raises InputError."""
        path = find_adapter(named)
        return cls(named, path, read_adapter_config(path), read_provenance(path, grid))

    @property
    def title(self) -> str:
        """What people call it: its id on the hub, whose cache calls a folder after the commit, or its folder."""
        origin = origin_of(self.path)
        return self.path.name if origin is None else origin.repo

    @property
    def carried(self) -> str:
        """How the adapter reaches a bundle: merged into weights, or as something that stays beside them."""
        return carried_as(self.config)

    def notes(self, base_name: str, names: set[str], *, rounded: bool) -> list[str]:
        """What is worth a word: ``names`` are those that the base goes by, ``rounded`` says whether the merge is
        into the base that training saw.
        """
        found = []
        if self.path != self.named:
            found.append(
                f"{self.named.name} holds checkpoints of an adapter; {self.path.name}, the newest, is taken"
            )
        found += adapter_notes(self.path, self.config)
        if self.provenance.source == ASSUMED and rounded:
            found.append(
                f"{self.title}: the adapter does not say what it was trained on; NF4 (QLoRA) is assumed. Set "
                "merge.grid: none if it was trained at full precision"
            )
        # PEFT keeps the name of the base; another name proves nothing, and is worth a word.
        trained_on = self.config.get("base_model_name_or_path")
        if isinstance(trained_on, str) and self.provenance.base is None:
            short = _last_part(trained_on)
            if short and short not in {_last_part(name) for name in (base_name, *names)}:
                found.append(
                    f"{self.title}: the adapter was trained on {trained_on}; check that {base_name} is that "
                    "model"
                )
        return found


def _last_part(name: str) -> str:
    """The last part of a path or hub id, for comparing."""
    name, _ = without_revision(name)
    return name.rstrip("/").rpartition("/")[2].casefold()
