"""GPU targets: their graphs compute what the CPU's do, in the form their provider reads, and run where one is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edgepeft.errors import EdgepeftError, MissingError
from edgepeft.evaluation.execution import check_software
from edgepeft.evaluation.graph_variants import widened, with_float_products, without_accuracy_level
from edgepeft.runtime import Bundle, GraphSession, Runtime
from edgepeft.runtime.devices import CPU, WEBGPU
from edgepeft.targets import find_target
from tests.exporters.chain import GPU_TARGETS
from tests.exporters.test_decoder import IDS, graph_of, simulated, wanted_logits
from tests.stages import Find
from tests.tiny import VOCAB_SIZE

FAMILIES = ["llama", "gemma3", "qwen3", "phi3"]
FEW = IDS[:24]
"""WebGPU's kernel for 32 tokens and more needs wider subgroups than software has."""
FLOAT = [target for target in GPU_TARGETS if not find_target(target).bits]
INTEGER = [target for target in GPU_TARGETS if find_target(target).bits]


def on_cpu(bundle: Path, scratch: Path) -> npt.NDArray[np.float32]:
    opened = Bundle.open(bundle)
    if find_target(bundle.name).io_dtype == "bf16":
        opened = widened(opened, scratch)
    return GraphSession(opened, providers=[CPU], threads=1).logits(IDS)


@pytest.mark.parametrize("target", FLOAT)
@pytest.mark.parametrize("case", FAMILIES)
def test_float_graphs_compute_what_the_merged_model_computes(
    built: Find, case: str, target: str, tmp_path: Path
) -> None:
    wanted = wanted_logits(simulated(built(case, "merge"), None))
    logits = on_cpu(built(case, target), tmp_path)
    # bfloat16 keeps 8 bits of a weight's mantissa, half precision 11.
    bound = 0.2 if find_target(target).io_dtype == "bf16" else 0.05
    np.testing.assert_allclose(logits, wanted, atol=bound, rtol=0)


@pytest.mark.parametrize("target", INTEGER)
@pytest.mark.parametrize("case", FAMILIES)
def test_integer_graphs_compute_what_their_codes_stand_for(
    built: Find, case: str, target: str, tmp_path: Path
) -> None:
    wanted = wanted_logits(simulated(built(case, "merge"), built(case, f"quantize-{target}")))
    logits = on_cpu(built(case, target), tmp_path)
    half = find_target(target).io_dtype == "fp16"
    np.testing.assert_allclose(logits, wanted, atol=0.05 if half else 1e-4, rtol=0)
    same = (logits.argmax(-1) == wanted.argmax(-1)).mean()
    assert same >= (0.97 if half else 1)


@pytest.mark.parametrize("target", GPU_TARGETS)
def test_each_bundle_names_its_provider_to_genai(built: Find, target: str) -> None:
    profile = find_target(target)
    config = json.loads((built("llama", target) / "genai_config.json").read_text())
    options = config["model"]["decoder"]["session_options"]
    names = {"cuda": "cuda", "NvTensorRtRtx": "NvTensorRtRtx", "webgpu": "webgpu", "dml": "dml"}
    assert [*options["provider_options"][0]] == [names[profile.builder_provider]]
    assert ("ep.cuda.fpa_intb_gemm" in options) == (target == "cuda-int4")


@pytest.mark.parametrize("target", ["webgpu-int4-fp32", "cuda-int4"])
def test_float_products_of_8_bit_weights_are_the_same_numbers(
    built: Find, target: str, tmp_path: Path
) -> None:
    bundle = Bundle.open(built("llama", target))
    changed = with_float_products(bundle, tmp_path)
    kinds = [node.op_type for node in onnx.load(changed.model_file).graph.node]
    assert kinds.count("MatMul") == 1
    assert kinds.count("MatMulNBits") == 10
    wanted, logits = (
        GraphSession(one, providers=[CPU], threads=1).logits(IDS) for one in (bundle, changed)
    )
    half = find_target(target).io_dtype == "fp16"
    np.testing.assert_allclose(logits, wanted, atol=0.02 if half else 1e-5, rtol=0)


def test_accuracy_level_is_taken_out_of_a_copy(built: Find, tmp_path: Path) -> None:
    shipped = Bundle.open(built("level-4", "cpu-int4"))
    exact = without_accuracy_level(shipped, tmp_path)
    assert exact is not None
    rounded, logits = (GraphSession(one, threads=1).logits(IDS) for one in (shipped, exact))
    wanted = wanted_logits(
        simulated(built("level-4", "merge"), built("level-4", "quantize-cpu-int4"))
    )
    np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=0)
    assert np.abs(rounded - wanted).max() > 1e-3
    assert without_accuracy_level(exact, tmp_path) is None


def test_a_large_head_is_restored_some_rows_at_a_time(built: Find, tmp_path: Path) -> None:
    shipped = Bundle.open(built("level-4", "cpu-int4"))
    whole = without_accuracy_level(shipped, tmp_path / "whole")
    parts = without_accuracy_level(shipped, tmp_path / "parts", restored=4 * 64 * 100)
    assert whole is not None
    assert parts is not None
    names = [node.name for node in onnx.load(parts.model_file).graph.node]
    heads = [name for name in names if name.startswith("/lm_head/MatMul")]
    assert len(heads) == -(-VOCAB_SIZE // 100) + 1
    wanted, logits = (GraphSession(one, threads=1).logits(IDS) for one in (whole, parts))
    np.testing.assert_allclose(logits, wanted, atol=1e-5, rtol=0)


def test_tensorrt_weights_are_symmetric_and_of_onnx_alone(built: Find) -> None:
    model = onnx.load(graph_of(built("llama", "trt-rtx-int4")), load_external_data=False)
    operators = [node.op_type for node in model.graph.node]
    assert "MatMulNBits" not in operators
    assert operators.count("DequantizeLinear") == 10
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            assert len(node.input) == 2
            assert kinds[node.input[0]] == onnx.TensorProto.INT4


def test_directml_reads_no_quantized_lookup(built: Find) -> None:
    model = onnx.load(graph_of(built("llama", "directml-int4")), load_external_data=False)
    operators = {node.op_type for node in model.graph.node}
    assert "GatherBlockQuantized" not in operators
    assert {"MatMulNBits", "RotaryEmbedding"} <= operators


@pytest.mark.parametrize("case", FAMILIES)
def test_webgpu_computes_the_cpus_logits_and_tokens(built: Find, case: str, webgpu: str) -> None:
    bundle = Bundle.open(built(case, "webgpu-int4-fp32"))
    device = GraphSession(bundle)
    cpu = GraphSession(bundle, providers=[CPU])
    assert device.provider == WEBGPU
    assert np.abs(device.logits(FEW) - cpu.logits(FEW)).max() < 1e-3
    assert device.greedy(FEW, 4, ()) == cpu.greedy(FEW, 4, ())


def test_genai_decodes_on_webgpu(built: Find, webgpu: str) -> None:
    bundle = Bundle.open(built("llama", "webgpu-int4-fp32"))
    # More tokens than the kernel takes at once: the runtime hands them over in parts.
    wanted = GraphSession(bundle, providers=[CPU]).greedy(IDS, 6, ())
    assert Runtime(bundle).generate_ids(IDS, max_new_tokens=6) == wanted


def test_a_planted_error_in_the_weights_is_noticed(
    built: Find, webgpu: str, tmp_path: Path
) -> None:
    """The check compares a device with the CPU, so the error is planted in what the device alone reads."""
    whole = Bundle.open(built("llama", "webgpu-int4-fp32"))
    agreed = check_software(whole, FEW, tmp_path / "scratch")
    assert 0 < agreed.max_difference < 1e-3
    spoiled = tmp_path / "spoiled"
    shutil.copytree(whole.path, spoiled)
    data = spoiled / whole.model_file.relative_to(whole.path)
    data = data.with_name(f"{data.name}_data")
    content = bytearray(data.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    data.write_bytes(content)
    broken = GraphSession(spoiled / whole.model_file.relative_to(whole.path), providers=[WEBGPU])
    good = GraphSession(whole, providers=[CPU])
    assert np.abs(broken.logits(FEW) - good.logits(FEW)).max() > 1e-2


def test_a_kernel_that_passes_over_a_setting_is_noticed(
    built: Find, webgpu: str, tmp_path: Path
) -> None:
    """WebGPU's attention knows no softcap, so plans refuse Gemma 2 for it; this is how it would show."""
    bundle = Bundle.open(built("gemma2", "webgpu-int4-fp32"))
    with pytest.raises(EdgepeftError, match="differs from the CPU by"):
        check_software(bundle, IDS, tmp_path)


@pytest.mark.parametrize(
    ("target", "mend"),
    [
        ("cuda-int4", r"edgepeft\[cuda\]"),
        ("trt-rtx-int4", "trt-rtx"),
        ("directml-int4", "directml"),
    ],
)
def test_a_provider_that_is_not_here_is_named_with_the_mend(
    built: Find, target: str, mend: str
) -> None:
    bundle = Bundle.open(built("llama", target))
    for load in (GraphSession, Runtime):
        with pytest.raises(MissingError, match=mend) as caught:
            load(bundle)
        assert "\n" not in str(caught.value)


def test_a_graph_that_leaves_products_to_the_cpu_is_refused(
    built: Find, webgpu: str, tmp_path: Path
) -> None:
    """WebGPU has no kernel for double precision; onnxruntime would quietly run it on the CPU."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "head"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["logits"], to=TensorProto.FLOAT),
    ]
    table: Any = np.ones((VOCAB_SIZE, 4))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "n"])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["batch_size", "n", VOCAB_SIZE]
            )
        ],
        [
            onnx.numpy_helper.from_array(table, "table"),
            onnx.numpy_helper.from_array(table.T, "head"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "wide.onnx")
    assert GraphSession(tmp_path / "wide.onnx").logits([1, 2]).shape == (2, VOCAB_SIZE)
    with pytest.raises(EdgepeftError, match=r"leaves MatMul to the CPU|asked for WebGpu"):
        GraphSession(tmp_path / "wide.onnx", providers=[WEBGPU])
