"""Cohere's Command R models: neighbouring numbers are rotated together, and logits are scaled.

Those of the second generation rotate nothing in layers that see everything.
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families import parallel


class Graph(parallel.Graph):
    """Parallel layers with attention and head of Cohere's."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        self._windowed = config.model_type == "cohere2"
        super().__init__(config, *arguments)
        self.rope_attrs["interleaved"] = 1
        self.lm_head_attrs["scale"] = float(config.logit_scale)

    def rotates(self, layer_id: int) -> bool:
        """Whether a layer rotates its queries and keys."""
        return not self._windowed or self.layer_types[layer_id] == "sliding_attention"
