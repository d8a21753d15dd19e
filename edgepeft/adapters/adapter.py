"""A PEFT adapter that was opened and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter on disk: its folder, its configuration and its tensors, mapped from the file.

    Tensors have the names that PEFT writes, whatever the file calls them, and the file's shapes and dtypes.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
