"""EXAONE 4 (https://arxiv.org/abs/2507.11407): OLMo's norms, those of queries and keys for each head, and layers
that see everything without positions where the others have a window.
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families import olmo


class Graph(olmo.Graph):
    """OLMo's layers with attention of EXAONE 4."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        self._hybrid = config.sliding_window is not None
        super().__init__(config, *arguments)

    def make_qk_norm(self, layer_id: int, attention: Any) -> None:
        """Norms of each head of queries and keys, as the builder has them."""
        super(olmo.Graph, self).make_qk_norm(layer_id, attention)

    def rotates(self, layer_id: int) -> bool:
        """Whether a layer rotates its queries and keys."""
        return not self._hybrid or self.layer_types[layer_id] != "full_attention"
