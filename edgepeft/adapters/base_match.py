"""Is this the base the adapter was trained on? Another of the same shape would load and answer nonsense."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgepeft.adapters.config import ALLOW
from edgepeft.adapters.folder import CONFIG
from edgepeft.adapters.provenance import Provenance
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import InputError


def refuse_other_base(
    base: Collection[str], folder: Path, config: Mapping[str, Any], provenance: Provenance
) -> None:
    """Hold the base against what the adapter's folder says of its own. Raises InputError where they differ.

    ``base`` are the fingerprints of the base: as it was given, which another tool has trained on, and as it was
    staged, which edgepeft has. Adapters made by edgepeft carry the fingerprint of their base. PEFT notes a name
    or a path: a path that is still there is looked at, a name alone proves nothing.
    """
    if provenance.base is not None:
        recorded, name = provenance.base.get("fingerprint"), provenance.base.get("name", "?")
        where = str(folder)
    else:
        name = str(config.get("base_model_name_or_path") or "")
        other = Path(name).expanduser()
        if not name or not (other / "config.json").is_file():
            return
        where = str(folder / CONFIG)
        try:
            recorded = fingerprint(SafetensorsSource.from_folder(other, codes=True))
        except InputError:
            return
    if recorded is not None and recorded not in base:
        raise InputError(f"{where}: was trained on {name}, whose weights are not these; {ALLOW}")
