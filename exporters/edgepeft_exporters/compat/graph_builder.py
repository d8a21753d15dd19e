"""The graph builder of onnxruntime-genai as a library: our model in, its graph out, nothing saved.

Written for onnxruntime-genai 0.18. Replaces methods of ``builders.base.Model``, a module that importing the
builder puts on ``sys.path``: ``load_weights``, ``make_initializer``, ``save_model`` and ``save_processing``,
because the builder has no way to take a model and to hand out its graph, and its initializers are made of
values at once; ``make_config_init``, ``make_attention_qk_rope``, ``has_lm_head`` and ``make_embedding``,
because it is wrong there. Reads ``no_rope_layers`` and sets ``embed_attrs["scale"]``. A builder that takes a
model and returns a graph with lazy tensors would make the first four unnecessary, mends of its own the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnx_ir.tensor_adapters import from_torch_dtype

from edgepeft_exporters.compat.builder_config import flatten_rope, name_sliding_layers
from edgepeft_exporters.lazy.deferred import Deferred
from edgepeft_exporters.lazy.graph import lazy_tensor


@dataclass(frozen=True)
class BuiltGraph:
    """What the builder would have saved; ``deferred`` are the initializers that are still expressions."""

    model: ir.Model
    head_size: int
    deferred: dict[str, Deferred]


@contextlib.contextmanager
def made_of(builder: Any, config: Any, model: str, graph: type) -> Iterator[None]:
    """Have the builder make its graph of the class ``graph`` where it would take its own, called ``model``.

    An architecture that it has no class for is Llama to it meanwhile. A class that says ``own_tables`` makes
    rotary tables without the configuration.
    """
    theirs, architectures = getattr(builder, model), config.architectures
    setattr(builder, model, graph)
    if model == "LlamaModel":
        config.architectures = ["LlamaForCausalLM"]
    try:
        yield
    finally:
        setattr(builder, model, theirs)
        config.architectures = architectures


@contextlib.contextmanager
def as_library(skeleton: Any, captured: list[BuiltGraph]) -> Iterator[None]:
    """Give the builder our model, keep it from saving, and note which initializers are deferred.

    What it would have saved is put into ``captured``.
    """
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
        captured.append(BuiltGraph(self.model, self.head_size, deferred))

    original_config_init = Model.make_config_init

    def make_config_init(self: Any, config: Any) -> None:
        flatten_rope(config, own_tables=getattr(type(self), "own_tables", False))
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
