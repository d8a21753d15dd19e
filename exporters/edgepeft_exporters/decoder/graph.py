"""The graph of a decoder, built by onnxruntime-genai's model builder over a skeleton without weights.

The builder is called as a library in the export stage's own process, because importing it adds its folder to
``sys.path`` under general names and it prints to standard output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from edgepeft.checkpoints.declared_config import declared_keys, keep_declared
from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.checkpoints.source import TensorSource
from edgepeft.targets import TargetProfile
from edgepeft_exporters.compat.graph_builder import BuiltGraph, as_library, made_of
from edgepeft_exporters.decoder.families.rotary import ModelRotary
from edgepeft_exporters.decoder.sources import ANY, SOURCES, Source, rotary_kinds
from edgepeft_exporters.lazy.deferred import Deferred, defer_parameters


@dataclass
class DecoderGraph:
    """A decoder's lazy graph; ``head_size`` is the size of one attention head."""

    model: ir.Model
    head_size: int
    deferred: dict[str, Deferred] = field(default_factory=dict)


def build_graph(
    folder: Path, weights: TensorSource, target: TargetProfile, out: Path, *, share_embedding: bool
) -> DecoderGraph:
    """Build the float graph for a checkpoint folder and write ``genai_config.json`` into ``out``.

    ``share_embedding`` lets a tied model's float graph read the embedding out of the head's weight.
    """
    from onnxruntime_genai.models import builder

    skeleton = build_skeleton(folder, weights.specs)
    tied = bool(skeleton.config.tie_word_embeddings)
    share_embedding = share_embedding and tied
    # What the builder computes of weights, such as Gemma's norms plus one, is computed in float32.
    skeleton = defer_parameters(skeleton, lambda name: weights.load(name).to(torch.float32))
    captured: list[BuiltGraph] = []
    options = [
        # A target's own come first: those below are what the rest of edgepeft builds on.
        *(f"{name}={value}" for name, value in target.graph_options.items()),
        f"filename={target.file_stem}.onnx",
        "prune_lm_head=false",
        # Fused into attention, the Q and K norms run on some providers only, and the graph must run on all.
        "fuse_qk_norm_gqa=false",
        # A ring buffer for sliding layers needs a runtime that sizes it; plain onnxruntime does not.
        "windowed_kv_cache=false",
        f"shared_embeddings={'true' if share_embedding else 'false'}",
        "hf_remote=false",
        "hf_token=false",
    ]
    with as_library(skeleton, captured):
        arguments = (
            None,
            str(folder),
            str(out),
            target.io_dtype,
            target.builder_provider,
            str(out),
        )
        prepared = builder.parse_extra_options(*arguments, options)
        # The builder obeys any attribute it finds, also those that the model's class does not declare.
        config = prepared["hf_details"]["hf_config"]
        # Those that the builder itself read from the tokenizer are no model's.
        markers = {name: id for name, id in vars(config).items() if name.endswith("_token_id")}
        keep_declared(config).update({**markers, "tie_word_embeddings": tied})
        declares = "original_max_position_embeddings" in declared_keys(type(config))
        if declares and rotary_switch(config.to_dict()) is None:
            # The builder takes a Phi-3 whose two lengths differ for one with two sets of rotary factors.
            config.original_max_position_embeddings = config.max_position_embeddings
        source = SOURCES[config.architectures[0]]
        with made_of(builder, config, source.model, _class_of(source, builder, skeleton)):
            builder.create_model(*arguments, **prepared)
    (built,) = captured
    return DecoderGraph(built.model, built.head_size, built.deferred)


def _class_of(source: Source, builder: Any, skeleton: Any) -> type:
    """The class that the graph is made of: ours or the builder's, with rotary tables as the model has them."""
    from builders.base import Model

    own: type = ModelRotary
    theirs: type = getattr(builder, source.model)
    if source.graph is not None:
        own = import_module(source.graph).Graph
        theirs = Model if source.model == ANY else theirs
    elif "longrope" in rotary_kinds(skeleton.config.to_dict()):
        # Which of its two pairs of tables is read is for the graph to decide, which the builder does.
        return theirs
    return type(theirs.__name__, (own, theirs), {"skeleton": skeleton})


def fix_head_size(graph: DecoderGraph) -> None:
    """State the cache's last dimension as a number: some runtimes read an unknown symbol as 0."""
    for value in (*graph.model.graph.inputs, *graph.model.graph.outputs):
        name = value.name or ""
        if value.shape is not None and name.endswith((".key", ".value")):
            value.shape = ir.Shape([*value.shape[:3], graph.head_size])


def point_genai_config(
    folder: Path, filename: str, session_options: Mapping[str, str]
) -> dict[str, Any]:
    """Make ``genai_config.json`` name the graph where the bundle keeps it, and add a target's session entries;
    returns the configuration.
    """
    path = folder / "genai_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["filename"] = filename
    config["model"]["decoder"]["session_options"].update(session_options)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return config
