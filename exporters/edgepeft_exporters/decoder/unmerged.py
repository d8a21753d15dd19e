"""What of an adapter did not merge, put into the graph."""

from __future__ import annotations

from pathlib import Path

from edgepeft.adapters.unmerged import Unmerged
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft_exporters.decoder.bottleneck import add_bottlenecks
from edgepeft_exporters.decoder.graph import DecoderGraph
from edgepeft_exporters.decoder.virtual import VirtualTokens


def put_in(graph: DecoderGraph, unmerged: Unmerged, folder: Path, size: int) -> range:
    """Add the unmerged part of an adapter to a graph whose weights are bound; the ids of virtual tokens.

    ``folder`` is the checkpoint's, ``size`` how many ids its tokenizer has. Raises EdgepeftError.
    """
    if unmerged.carried == "layers":
        add_bottlenecks(graph, unmerged)
        return range(0)
    embedding = build_skeleton(folder).get_input_embeddings()
    first = max(int(embedding.num_embeddings), size)
    virtual = VirtualTokens(graph, first, unmerged.virtual_tokens)
    if unmerged.carried == "prefix":
        virtual.remember(unmerged.tensors["keys"], unmerged.tensors["values"])
    else:
        # Gemma scales what it looks up, and PEFT's embeddings stand for what comes out of that.
        scale = float(getattr(embedding, "scalar_embed_scale", 1.0))
        virtual.embed(unmerged.tensors["embeddings"] / scale)
    virtual.hide()
    return range(first, first + unmerged.virtual_tokens)
