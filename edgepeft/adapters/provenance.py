"""What an adapter was trained on: the grid of its base, and which weights lay on it.

Adapters made by edgepeft say so in a file of their own. PEFT's configuration doesn't record it, but PEFT writes
the bitsandbytes settings into the adapter's README; failing that, the recipe decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.errors import InputError
from edgepeft.runs.folder import write_json
from edgepeft.utils.files import read_json_object

FILE = "edgepeft_training.json"
CARD = 1 << 20
"""Characters of a model card that are read."""
ASSUMED = "assumed"
"""The source of what no file says and no recipe declares."""


@dataclass(frozen=True)
class TrainingGrid:
    """How the base was quantized while the adapter was trained; kind ``none`` means not at all."""

    kind: Literal["nf4", "fp4", "int8", "none"] = "none"
    block_size: int = 64
    double_quant: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a grid that bitsandbytes does not have."""
        sized = type(self.block_size) is int and 1 <= self.block_size <= 4096
        if self.kind not in ("nf4", "fp4", "int8", "none") or not sized:
            raise ValueError(f"unknown grid: {self.kind} in blocks of {self.block_size}")

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as manifests keep it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TrainingGrid:
        """Read back ``as_dict``."""
        return cls(**value)


@dataclass(frozen=True)
class Provenance:
    """The grid, the names of the weights on it (None: every linear layer but the head), and how it is known.

    ``method`` is the registered method; ``base`` has the ``name`` and the ``fingerprint`` of the model.
    """

    grid: TrainingGrid
    quantized: tuple[str, ...] | None
    source: str
    method: str | None = None
    base: Mapping[str, str] | None = None

    @property
    def trained_on(self) -> str:
        """The grid's name for people and reports; what is only assumed is called so."""
        return f"{ASSUMED} {self.grid.kind}" if self.source == ASSUMED else self.grid.kind

    def write(self, folder: Path) -> None:
        """Leave the record in an adapter's folder."""
        record = self.as_dict()
        del record["source"]
        write_json(folder / FILE, record)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, for stage settings."""
        names = list(self.quantized) if self.quantized is not None else None
        record = {"grid": self.grid.as_dict(), "quantized": names, "source": self.source}
        if self.method is not None:
            record["method"] = self.method
        if self.base is not None:
            record["base"] = dict(self.base)
        return record

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Provenance:
        """Read back ``as_dict``."""
        names = value["quantized"]
        grid = TrainingGrid.from_dict(value["grid"])
        base = value.get("base")
        return cls(
            grid,
            None if names is None else tuple(names),
            str(value.get("source", "")),
            value.get("method"),
            None if base is None else {str(key): str(entry) for key, entry in base.items()},
        )


def read_provenance(folder: Path, declared: str = "auto") -> Provenance:
    """What the adapter in ``folder`` was trained on; ``declared`` is the recipe's ``merge.grid``.

    Raises InputError where the adapter's own record is damaged.
    """
    if declared != "auto":
        return Provenance(TrainingGrid(kind=declared), None, "merge.grid")  # type: ignore[arg-type]
    record = folder / FILE
    if record.is_file():
        try:
            return Provenance.from_dict({**read_json_object(record), "source": FILE})
        except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{record}: damaged ({error}); set merge.grid in the recipe") from None
    card = folder / "README.md"
    if card.is_file():
        with card.open(encoding="utf-8", errors="replace") as stream:
            found = _from_card(stream.read(CARD))
        if found is not None:
            return Provenance(found, None, "README.md")
    return Provenance(TrainingGrid(kind="nf4"), None, ASSUMED)


def _from_card(text: str) -> TrainingGrid | None:
    """The bitsandbytes settings that PEFT lists in a model card, as ``- load_in_4bit: True`` lines."""
    settings = dict(re.findall(r"^- (\w+): (\S+)[ \t]*$", text, flags=re.MULTILINE))
    if settings.get("load_in_8bit") == "True":
        return TrainingGrid("int8")
    if settings.get("load_in_4bit") != "True":
        return None
    kind = settings.get("bnb_4bit_quant_type", "fp4")
    double = settings.get("bnb_4bit_use_double_quant", "False") == "True"
    if kind == "nf4":
        return TrainingGrid("nf4", double_quant=double)
    return TrainingGrid("fp4", double_quant=double)
