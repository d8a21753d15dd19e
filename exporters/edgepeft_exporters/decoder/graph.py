"""The graph of a decoder, built by onnxruntime-genai's model builder over a skeleton without weights.

The builder is called as a library in the export stage's own process, because importing it adds its folder to
``sys.path`` under general names and it prints to standard output.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from edgepeft.checkpoints.declared_config import declared_keys, keep_declared
from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.checkpoints.source import TensorSource
from edgepeft.errors import EdgepeftError
from edgepeft.targets import TargetProfile
from edgepeft_exporters.lazy.deferred import Deferred, defer_parameters
from edgepeft_exporters.lazy.graph import lazy_tensor


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
    captured: list[DecoderGraph] = []
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
    with _as_library(skeleton, captured):
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
        builder.create_model(*arguments, **prepared)
    return captured[0]


@contextlib.contextmanager
def _as_library(skeleton: Any, captured: list[DecoderGraph]) -> Iterator[None]:
    """Give the builder our model, keep it from saving, and note which initializers are deferred."""
    from builders.base import Model

    deferred: dict[str, Deferred] = {}
    original_initializer = Model.make_initializer

    def make_initializer(
        self: Any, tensor: Any, /, name: str, *, to: ir.DataType | None = None, raw: bool = False
    ) -> None:
        if not isinstance(tensor, Deferred):
            original_initializer(self, tensor, name, to=to, raw=raw)
            return
        dtype = to if to is not None else from_torch_dtype(tensor.dtype)
        deferred[name] = tensor
        value = self.make_value(name, dtype, ir.Shape(tuple(tensor.shape)))
        value.const_value = lazy_tensor(name, tensor.evaluate, tuple(tensor.shape), dtype)
        self.model.graph.register_initializer(value)

    def save_model(self: Any, out_dir: str) -> None:
        captured.append(DecoderGraph(self.model, self.head_size, deferred))

    original_config_init = Model.make_config_init

    def make_config_init(self: Any, config: Any) -> None:
        flatten_rope(config)
        name_sliding_layers(config)
        original_config_init(self, config)

    original_rope = Model.make_attention_qk_rope

    def make_attention_qk_rope(self: Any, layer_id: int, **kwargs: Any) -> Any:
        # SmolLM3 leaves some layers without positions; the builder means to, but rotates them outside attention.
        rotated = getattr(self, "no_rope_layers", None)
        if rotated is not None and not rotated[layer_id]:
            return "", ""
        return original_rope(self, layer_id, **kwargs)

    def has_lm_head(self: Any, module: Any) -> bool:
        # The builder takes any product as high as the vocabulary for the head.
        return module is skeleton.get_output_embeddings()

    original_embedding = Model.make_embedding

    def make_embedding(self: Any, embedding: Any) -> None:
        # The builder rounds Gemma's scale to two digits.
        exact = getattr(skeleton.get_input_embeddings(), "scalar_embed_scale", None)
        if exact is not None:
            self.embed_attrs["scale"] = float(exact)
        original_embedding(self, embedding)

    replaced = {
        "make_embedding": make_embedding,
        "has_lm_head": has_lm_head,
        "make_attention_qk_rope": make_attention_qk_rope,
        "make_config_init": make_config_init,
        "load_weights": lambda self, input_path: skeleton,
        "make_initializer": make_initializer,
        "save_model": save_model,
        "save_processing": lambda self, name, kwargs, out_dir: None,
    }
    originals = {name: getattr(Model, name) for name in replaced}
    for name, function in replaced.items():
        setattr(Model, name, function)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(Model, name, function)


def flatten_rope(config: Any) -> None:
    """Turn transformers 5's rotary settings per layer type into the flat ones that the builder reads.

    Raises EdgepeftError for scaled frequencies there, which the builder would apply to every layer alike.
    """
    parameters = getattr(config, "rope_parameters", None)
    if isinstance(parameters, dict) and "rope_type" in parameters:
        # The older key, which Phi-3's builder reads.
        parameters.setdefault("type", parameters["rope_type"])
        if parameters["rope_type"] == "longrope":
            _, scale = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"))
            # Left to itself the builder passes over the factors that a configuration gives for it.
            parameters["short_mscale"] = parameters["long_mscale"] = float(scale)
    if not isinstance(parameters, dict) or "full_attention" not in parameters:
        return
    full, local = parameters["full_attention"], parameters.get("sliding_attention", {})
    if full.get("rope_type", "default") != "default":
        raise EdgepeftError(
            f"{config.architectures[0]}: {full['rope_type']} rotary scaling on some layers only is not "
            "supported by the graph builder"
        )
    config.rope_parameters = dict(full)
    config.rope_theta = full["rope_theta"]
    config.rope_local_base_freq = local.get("rope_theta", full["rope_theta"])


def name_sliding_layers(config: Any) -> None:
    """Mark each layer as windowed where one setting says so for all (Mistral, Phi-3), as the builder asks it."""
    if getattr(config, "sliding_window", None) and getattr(config, "layer_types", None) is None:
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers


def fix_head_size(graph: DecoderGraph) -> None:
    """State the cache's last dimension as a number: some runtimes read an unknown symbol as 0."""
    for value in (*graph.model.graph.inputs, *graph.model.graph.outputs):
        name = value.name or ""
        if value.shape is not None and name.startswith(("past_key_values.", "present.")):
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
