"""The graph of an encoder: torch's exporter run over a skeleton, its weights bound lazily afterwards.

Parameters are fake tensors, which have shapes and no values, so that no weight is ever loaded here. The attention
is the plain one, whose operators onnxruntime fuses by itself.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.checkpoints.source import TensorSource
from edgepeft.errors import EdgepeftError, one_line
from edgepeft.models.tasks import EMBEDDING, ENCODER_TASKS
from edgepeft_exporters.compat.torch_fake import fake_parameters, has_no_value, without_values
from edgepeft_exporters.lazy.deferred import Deferred, named_weight
from edgepeft_exporters.lazy.graph import lazy_tensor, put_in_place

INPUTS = ("input_ids", "attention_mask")
TYPES = "token_type_ids"
"""The input that tells two texts apart, of graphs that read two."""
_OPSET = 20
_IR_DTYPES = {torch.float32: ir.DataType.FLOAT, torch.float16: ir.DataType.FLOAT16}


@dataclass
class EncoderGraph:
    """An encoder's lazy graph: ``deferred`` holds what codes can take the place of."""

    model: ir.Model
    deferred: dict[str, Deferred] = field(default_factory=dict)


class _Task(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """The model as a function of its inputs to the task's one output."""

    def __init__(self, model: Any, output: str, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self._output, self._inputs = output, inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Logits or token vectors."""
        outputs = self.model(**dict(zip(self._inputs, tensors, strict=True)))
        found: torch.Tensor = getattr(outputs, self._output)
        return found


def build_graph(
    folder: Path, weights: TensorSource, task: str, dtype: torch.dtype, *, typed: bool = False
) -> EncoderGraph:
    """The graph of a checkpoint folder for a task, computing in ``dtype``; ``typed`` tells it two texts apart.

    Weights of products and of the word embedding are deferred, so that codes can take their place. Raises
    EdgepeftError where torch can't export the model.
    """
    output, inputs = ENCODER_TASKS[task].output, (*INPUTS, TYPES) if typed else INPUTS
    skeleton = build_skeleton(folder)
    skeleton.set_attn_implementation("eager")
    skeleton.config.use_cache = False
    embedding = skeleton.get_input_embeddings().weight
    names = {id(parameter): name for name, parameter in skeleton.named_parameters()}
    embedding_name = f"model.{names[id(embedding)]}"
    module = _Task(skeleton, output, inputs)
    model = _exported(module, skeleton.config, dtype, output, inputs)
    graph = EncoderGraph(model)
    for node in list(model.graph):
        _split_gemm(graph, node)
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is not None:
            continue
        stored = name.removeprefix("model.")
        if name == embedding_name:
            graph.deferred[name] = named_weight(stored, weights.specs[stored].shape, weights.load)
        value.const_value = lazy_tensor(
            name, _loading(weights, stored), tuple(value.shape or ()), _IR_DTYPES[dtype]
        )
    for node in list(model.graph):
        _take_transpose_in(graph, node, weights, dtype)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            # Its transpose has taken its place.
            del model.graph.initializers[name]
    model.opset_imports.setdefault("com.microsoft", 1)
    return graph


def _exported(
    module: Any, config: Any, dtype: torch.dtype, output: str, names: tuple[str, ...]
) -> ir.Model:
    """Run torch's exporter; initializers that are weights have no value afterwards."""
    import onnxscript.optimizer
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    with without_values():
        fake_parameters(module, dtype)
        inputs = _example(config, names)
    batch, length = torch.export.Dim("batch_size"), torch.export.Dim("sequence_length")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                input_names=names,
                output_names=[output],
                dynamic_shapes=(tuple({0: batch, 1: length} for _ in names),),
                opset_version=_OPSET,
                # The optimizer would read the values of weights, which are not there yet.
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise EdgepeftError(f"torch can't export this model: {one_line(error)}") from None
    model = program.model
    for value in model.graph.initializers.values():
        if has_no_value(value.const_value):
            value.const_value = None
    onnxscript.optimizer.optimize_ir(model)
    RemoveUnusedNodesPass()(model)
    return model


def _example(config: Any, names: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    """Inputs of the right shape, made by optimum's generators."""
    from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

    normalized = NormalizedTextConfig(config)
    made = DummyTextInputGenerator(EMBEDDING, normalized, batch_size=2, sequence_length=16)
    return tuple(made.generate(name, framework="pt") for name in names)


def _loading(weights: TensorSource, name: str) -> Any:
    return lambda: weights.load(name)


def _split_gemm(graph: EncoderGraph, node: ir.Node) -> None:
    """A product with a transposed weight and a bias, as torch exports those of matrices, in two operators."""
    if node.op_type != "Gemm":
        return
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    plain = {attributes.get(key, 1) for key in ("alpha", "beta")} == {1}
    if not (plain and attributes.get("transB") and not attributes.get("transA")):
        raise EdgepeftError(f"{node.name}: a product that edgepeft does not know how to bind")
    weight, nodes = node.inputs[1], graph.model.graph
    turned = ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"{node.name}/turned")
    product = ir.node("MatMul", [node.inputs[0], turned.outputs[0]], name=f"{node.name}/product")
    made = [turned, product]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        made.append(ir.node("Add", [product.outputs[0], node.inputs[2]], name=node.name))
    old = node.outputs[0]
    for step in made:
        step.outputs[0].name = f"{step.name}/output"
        step.outputs[0].type = old.type
        nodes.insert_before(node, step)
    product.outputs[0].shape = old.shape
    put_in_place(nodes, node, made[-1].outputs[0])


def _take_transpose_in(
    graph: EncoderGraph, node: ir.Node, weights: TensorSource, dtype: torch.dtype
) -> None:
    """Make the transpose of a weight a deferred initializer [K, N] of its own."""
    source = node.inputs[0] if node.op_type == "Transpose" else None
    name = source.name if source is not None and source.is_initializer() else None
    if name is None or not name.startswith("model."):
        return
    stored = name.removeprefix("model.")
    tensor = named_weight(stored, weights.specs[stored].shape, weights.load).T
    shape = tuple(tensor.shape)
    value = ir.Value(
        name=f"{name}.transposed", type=ir.TensorType(_IR_DTYPES[dtype]), shape=ir.Shape(shape)
    )
    value.const_value = lazy_tensor(value.name or "", tensor.evaluate, shape, _IR_DTYPES[dtype])
    graph.model.graph.register_initializer(value)
    graph.deferred[value.name or ""] = tensor
    node.outputs[0].replace_all_uses_with(value)
    graph.model.graph.remove(node, safe=True)
