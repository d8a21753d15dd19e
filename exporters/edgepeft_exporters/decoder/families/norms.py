"""A norm behind attention or feed-forward network, before what they give is added to the stream."""

from __future__ import annotations

from typing import Any


def norm_behind(graph: Any, layer_id: int, norm: Any, location: str) -> None:
    """Put ``norm`` over what the builder's model ``graph`` is to add next; the stream stays as it is."""
    attributes = graph.layernorm_attrs
    stream, attributes["root_input"] = attributes["root_input"], attributes["skip_input"]
    graph.make_layernorm(layer_id, norm, skip=False, simple=True, location=location)
    attributes["root_input"], attributes["skip_input"] = stream, attributes["output_0"]
