"""The places that a hot-swap bundle keeps open for adapters, and the hash that binds an adapter to it.

A slot is one product of the graph with the low-rank branch ``x A B`` added to it; A and B are inputs of the graph
whose defaults have rank 0, so that without an adapter the graph is the base. Projections that share an input are
often one product; then A holds their factors side by side, and B is zero where a factor has no part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepeft.bundle.files import AGAIN, read_json
from edgepeft.bundle.shape import FLAG, NULL, STRING, Items, Keys, either, exactly, problem, whole
from edgepeft.errors import InputError

if TYPE_CHECKING:
    from edgepeft.runtime.bundle import Bundle

SLOTS = "adapters.json"
"""The file of a bundle that lists its slots."""

_WIDTH = whole(1, 1 << 24)
_RUN = exactly({"module": STRING, "first": whole(0, 1 << 24), "last": _WIDTH})
_SLOT = exactly({"name": STRING, "width": _WIDTH, "count": _WIDTH, "runs": Items(_RUN)})
_LIST = exactly(
    {
        "rank": whole(1, 1 << 16),
        "base": Keys(
            {"name": STRING, "fingerprint": STRING}, frozenset({"fingerprint"}), open=True
        ),
        "grid": Keys({}, open=True),
        "quantized": either(Items(STRING), NULL, "a list of names, or null"),
        "served": STRING,
        "exact": FLAG,
        "slots": Items(_SLOT),
    }
)


@dataclass(frozen=True)
class Run:
    """Outputs ``first`` to ``last`` (exclusive) of a module of the model, as they stand in a product."""

    module: str
    first: int
    last: int


@dataclass(frozen=True)
class Slot:
    """One product: ``name`` with ``.lora_A`` and ``.lora_B`` are its inputs, float32 [1, width, rank] and
    [1, rank, count]; ``runs`` are the modules' outputs that its ``count`` columns are, in order.
    """

    name: str
    width: int
    count: int
    runs: tuple[Run, ...]

    @property
    def inputs(self) -> tuple[str, str]:
        """The graph's inputs for A and B."""
        return f"{self.name}.lora_A", f"{self.name}.lora_B"

    @property
    def modules(self) -> list[str]:
        """The modules behind the product, each once."""
        return list(dict.fromkeys(run.module for run in self.runs))


@dataclass(frozen=True)
class Slots:
    """What adapters a bundle takes: ``rank`` is the largest, ``base`` the model they were trained on (``name``,
    ``fingerprint``), ``grid`` and ``quantized`` how that lay while they were trained, ``served`` how it is kept
    here, in words, and ``exact`` whether that is the same to the last bit.
    """

    rank: int
    base: Mapping[str, str]
    grid: Mapping[str, Any]
    quantized: Sequence[str] | None
    served: str
    exact: bool
    slots: tuple[Slot, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of every module that an adapter may change, by its name."""
        found: dict[str, tuple[int, int]] = {}
        for slot in self.slots:
            for run in slot.runs:
                last = max(run.last, found.get(run.module, (0, 0))[1])
                found[run.module] = (slot.width, last)
        return found

    def write(self, folder: Path) -> None:
        """Leave the list in a bundle's folder."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (folder / SLOTS).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, where: Path) -> Slots:
        """Read the list back. Raises InputError where it is malformed."""
        value = read_json(where)
        wrong = problem(value, _LIST)
        if wrong is not None:
            raise InputError(f"{where}: not a list of adapter slots ({wrong}); {AGAIN}")
        slots = tuple(
            Slot(**{**entry, "runs": tuple(Run(**run) for run in entry["runs"])})
            for entry in value["slots"]
        )
        return cls(**{**value, "slots": slots})


def takes_adapters(bundle: Bundle) -> bool:
    """Whether a bundle was exported for hot-swapped adapters."""
    return SLOTS in bundle.manifest["outputs"]


def refuse_merged(bundle: Bundle) -> None:
    """Raise InputError for a bundle that has no slots."""
    if not takes_adapters(bundle):
        raise InputError(
            f"{bundle.path}: its adapter is merged in; build with hot-swap to swap adapters "
            "(targets: [{name: ..., adapters: hot-swap}])"
        )


def slots_of(bundle: Bundle) -> Slots:
    """The slots of a bundle. Raises InputError where it has none."""
    refuse_merged(bundle)
    return Slots.read(bundle.path / SLOTS)


def binding(bundle: Bundle) -> str:
    """SHA-256, in hexadecimal, of what an adapter was made for: graph, weights and slots, by their own hashes."""
    graph = bundle.model_file.relative_to(bundle.path).as_posix()
    outputs = bundle.manifest["outputs"]
    total = hashlib.sha256()
    for name in sorted(name for name in outputs if name == SLOTS or name.startswith(graph)):
        total.update(f"{name}\0{outputs[name]['sha256']}\n".encode())
    return total.hexdigest()


def short_binding(whole: str) -> int:
    """The part of a binding that an adapter file itself can hold, as its model version (31 bits)."""
    return int(whole[:8], 16) & 0x7FFFFFFF
