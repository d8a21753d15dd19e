"""Adding adapters to a bundle and taking them away; no other file of the bundle is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgepeft import __version__
from edgepeft.bundle.manifest import MANIFEST
from edgepeft.errors import InputError, unknown_name
from edgepeft.hot_swap.factors_file import write_factors
from edgepeft.hot_swap.peft_folder import read_lora
from edgepeft.runs.folder import publish
from edgepeft.runtime.adapters import (
    BundleAdapter,
    adapter_folder,
    adapter_names,
    open_adapter,
    unused,
)
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.slots import binding, slots_of
from edgepeft.utils.temporary import sweep
from edgepeft.utils.whole_files import remove_folder, staged_folder, writing_failed


def add_adapter(
    bundle: Bundle,
    name: str,
    folder: Path,
    *,
    replace: bool = False,
    allow_base_mismatch: bool = False,
) -> BundleAdapter:
    """Put the PEFT adapter of ``folder`` into ``bundle`` under ``name``. Raises InputError, EdgepeftError.

    The adapter is there whole or not at all. One that has the name already is in the way, unless ``replace``.
    """
    slots = slots_of(bundle)
    final = refuse_taken(bundle, name, replace=replace)
    lora = read_lora(folder, slots, allow_base_mismatch=allow_base_mismatch)
    with staged_folder(final) as staged:
        facts = write_factors(lora, slots, binding(bundle), staged)
        manifest: dict[str, Any] = {
            "kind": "adapter",
            "edgepeft": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "result": {"adapter": name, **facts},
        }
        if (final / MANIFEST).is_file():
            with unused(final):
                publish(staged, final, manifest)
        else:
            publish(staged, final, manifest)
    return open_adapter(bundle, name)


def refuse_taken(bundle: Bundle, name: str, *, replace: bool) -> Path:
    """Where an adapter of that name would lie. Raises InputError where one does, unless it may be replaced."""
    final = adapter_folder(bundle, name)
    if final.exists() and not replace:
        raise InputError(f"{final}: an adapter of this name exists; remove it, or give --replace")
    return final


def remove_adapter(bundle: Bundle, name: str) -> None:
    """Take an adapter out of a bundle. Raises InputError for one that is unknown or in use."""
    folder = adapter_folder(bundle, name)
    names = adapter_names(bundle)
    if name not in names:
        raise unknown_name(str(folder.parent), "adapter", name, names)
    try:
        with unused(folder):
            sweep(folder.parent)
            remove_folder(folder)
    except OSError as error:
        raise writing_failed(folder, error) from None
