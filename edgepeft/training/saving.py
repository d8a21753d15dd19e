"""What training leaves: a PEFT adapter folder (or a whole model), and the record of what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from edgepeft.adapters.base_init import Factors
from edgepeft.adapters.config import INITIAL
from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import PREFIX
from edgepeft.adapters.provenance import Provenance
from edgepeft.adapters.scale import divisor
from edgepeft.hub.ids import without_revision
from edgepeft.training.hooks import hooks_of
from edgepeft.training.loading import Start


def save_trained(
    adapted: Any, folder: Path, provenance: Provenance, base_name: str, start: Start | None
) -> None:
    """Write the trained model's folder: adapter, or all weights where ``adapted`` is a bare model.

    With a ``start`` in full precision the adapter becomes plain LoRA of twice the rank on the untouched base; on
    a grid the initial factors are kept beside it.
    """
    hooks_of(adapted).before_saving(adapted)
    # PEFT would keep the embedding and head that factors lie on, which are the base's own.
    options = {"save_embedding_layers": False} if hasattr(adapted, "peft_config") else {}
    adapted.save_pretrained(str(folder), safe_serialization=True, **options)
    provenance.write(folder)
    if start is not None and provenance.grid.kind == "none":
        _fold_start(folder, start)
    elif start is not None:
        kept: dict[str, torch.Tensor] = {}
        for name, (a, b) in start.factors.items():
            kept[f"{name}.a"] = a.contiguous()
            kept[f"{name}.b"] = (start.scaling * b).contiguous()
        save_file(kept, str(folder / INITIAL))
    for card in folder.glob("README.md"):
        card.unlink()
    if (folder / CONFIG).is_file():
        base_name, revision = without_revision(base_name)
        changes: dict[str, Any] = {"base_model_name_or_path": base_name}
        if revision is not None:
            changes["revision"] = revision
        if start is not None:
            # The start is dealt with; PEFT must not repeat it when it loads the adapter.
            changes["init_lora_weights"] = True
        config = adapted.peft_config["default"]
        if getattr(config, "tokenizer_name_or_path", None):
            changes["tokenizer_name_or_path"] = base_name
        _edit_config(folder, changes)


def save_start(start: Start, path: Path) -> None:
    """Keep the initial factors for a training that is taken up again."""
    flat = {
        f"{name}.{part}": t
        for name, (a, b) in start.factors.items()
        for part, t in (("a", a), ("b", b))
    }
    save_file({name: tensor.contiguous() for name, tensor in flat.items()}, str(path))


def load_start(path: Path) -> dict[str, Factors]:
    """Read back ``save_start``."""
    flat = load_file(str(path))
    names = [name.removesuffix(".a") for name in flat if name.endswith(".a")]
    return {name: (flat[f"{name}.a"], flat[f"{name}.b"]) for name in names}


def _fold_start(folder: Path, start: Start) -> None:
    """Take the initial factors out of the adapter: B A - B0 A0 is a LoRA of twice the rank."""
    tensors = load_file(str(folder / WEIGHTS))
    for name, (a, b) in start.factors.items():
        stem = f"{PREFIX}{name.removesuffix('.weight')}"
        for part, extra, along in (("lora_A", a, 0), ("lora_B", -b, 1)):
            key = f"{stem}.{part}.weight"
            tensors[key] = torch.cat([tensors[key], extra], dim=along).contiguous()
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # Twice the rank must not change the scale.
    factor = divisor(config, 2)
    _edit_config(folder, {"r": 2 * config["r"], "lora_alpha": factor * config["lora_alpha"]})


def _edit_config(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / CONFIG
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
