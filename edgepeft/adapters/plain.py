"""An adapter under the names that PEFT itself writes, for whoever has PEFT load it from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import PREFIX, canonical, language_model_of
from edgepeft.adapters.settings import fit_settings
from edgepeft.models.names import moved
from edgepeft.models.safetensors_header import read_header


def plain_adapter(folder: Path, modules: Sequence[str], out: Path) -> Path:
    """The adapter in ``folder`` as PEFT would have saved it for a model with these modules.

    That is the folder itself, or where its keys have the names of a wrapper, of the adapter or of a larger
    model, a copy in ``out``: PEFT would pass over such keys without an error. Raises InputError.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        return folder
    names = canonical(read_header(path), path)
    place = language_model_of(names.names, modules)
    if not names.notes and place is None:
        return folder
    from peft import PeftConfig
    from safetensors.torch import load_file, save_file

    config = PeftConfig.from_pretrained(str(folder))
    fit_settings(config, modules, place, str(folder / CONFIG))
    out.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(out))
    stored = load_file(path)
    inside, alone = place or ("", "")
    tensors = {
        f"{PREFIX}{moved(name.removeprefix(PREFIX), inside, alone)}" if place else name: stored[own]
        for name, own in names.names.items()
    }
    save_file(tensors, str(out / WEIGHTS), metadata={"format": "pt"})
    return out
