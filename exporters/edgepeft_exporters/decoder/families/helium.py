"""Helium: Llama but for rotating neighbouring numbers together."""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families.rotary import ModelRotary


class Graph(ModelRotary):
    """The builder's model with Helium's rotation."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.rope_attrs["interleaved"] = 1
