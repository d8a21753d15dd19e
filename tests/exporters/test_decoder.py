"""An exported graph computes what the merged, rounded model computes, and is stored once."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import numpy_helper

from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.models.layer_kinds import CONVOLUTION, layer_kinds
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.runtime import Bundle, GraphSession, Runtime
from tests.exporters.chain import CASES
from tests.simulation import put_codes
from tests.stages import Find
from tests.tiny import HIDDEN_SIZE, VOCAB_SIZE

IDS = torch.randint(5, 400, (40,), generator=torch.Generator().manual_seed(0)).tolist()


def cases(*targets: str) -> pytest.MarkDecorator:
    """Every case together with those of its targets that are asked for."""
    pairs = [(name, t) for name, case in CASES.items() for t in case.targets if t in targets]
    # With level 4 the operator rounds activations too, which the simulation does not.
    exact = [pair for pair in pairs if not CASES[pair[0]].accuracy_level]
    return pytest.mark.parametrize(("case", "target"), exact)


@cache
def simulated(merged: Path, quantized: Path | None) -> Any:
    """The merged model in torch, with quantized weights replaced by what their codes stand for."""
    model = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    return put_codes(model, quantized)


def wanted_logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0].numpy()


def graph_of(bundle: Path) -> Path:
    (path,) = (bundle / "onnx").glob("*.onnx")
    return path


@cases("cpu-int4", "cpu-int8")
def test_integer_graph_computes_what_its_codes_stand_for(
    built: Find, case: str, target: str
) -> None:
    model = simulated(built(case, "merge"), built(case, f"quantize-{target}"))
    unrounded = wanted_logits(simulated(built(case, "merge"), None))
    wanted = wanted_logits(model)
    logits = GraphSession(graph_of(built(case, target)), threads=1).logits(IDS)
    # Rounding is seen in the logits, so agreeing with its simulation means something.
    assert np.abs(wanted - unrounded).max() > (1e-2 if target == "cpu-int4" else 1e-3)
    np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["llama", "qwen2", "gemma3", "phi3", "granite"])
def test_integer_graphs_of_8_bits_have_the_smoothed_norms(built: Find, case: str) -> None:
    """What the codes stand for is another function without them."""
    folder = built(case, "quantize-cpu-int8")
    quantized, merged = QuantizedWeights.open(folder), built(case, "merge")
    assert quantized.plan.smoothed > 0
    model = put_codes(transformers.AutoModelForCausalLM.from_pretrained(merged).float(), folder)
    right, source = wanted_logits(model), SafetensorsSource.from_folder(merged)
    assert quantized.folded is not None
    for name in quantized.folded.specs:
        model.get_parameter(name).data = source.load(name)
    assert np.abs(wanted_logits(model) - right).max() > 0.01


@cases("cpu-fp32", "cuda-fp16")
def test_float_graph_computes_what_the_merged_model_computes(
    built: Find, case: str, target: str
) -> None:
    wanted = wanted_logits(simulated(built(case, "merge"), None))
    bundle = built(case, target)
    logits = GraphSession(graph_of(bundle), threads=1).logits(IDS)
    assert wanted.std() > 0.3
    np.testing.assert_allclose(logits, wanted, atol=1e-4 if target == "cpu-fp32" else 0.05, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_each_case_differs_from_its_base(built: Find, case: str) -> None:
    """A graph of the bare base must not pass for the merged one."""
    model = transformers.AutoModelForCausalLM.from_pretrained(built(case, "model")).eval()
    merged = simulated(built(case, "merge"), None)
    assert np.abs(wanted_logits(model.float()) - wanted_logits(merged)).max() > 0.3


@cases("cpu-int4", "cpu-fp32")
def test_one_token_at_a_time_is_the_same_as_all_at_once(
    built: Find, case: str, target: str
) -> None:
    session = GraphSession(graph_of(built(case, target)), threads=1)
    answer = session.greedy(IDS, 8, stop_ids=())
    whole = session.logits([*IDS, *answer])
    assert whole[len(IDS) - 1 : -1].argmax(-1).tolist() == answer


@cases("cpu-fp32")
def test_in_pieces_is_the_same_as_all_at_once(built: Find, case: str, target: str) -> None:
    session = GraphSession(Bundle.open(built(case, target)), threads=1)
    ids = [*IDS, *IDS]
    parts = list(session.in_pieces(ids, 5))
    assert {len(part) for part in parts[:-1]} == {5}
    np.testing.assert_allclose(np.concatenate(parts), session.logits(ids), atol=2e-5, rtol=0)


@pytest.mark.parametrize("target", ["cpu-int4", "cpu-int8", "cpu-fp32"])
@pytest.mark.parametrize("case", ["llama", "qwen3", "gemma3", "smollm3", "k-quant"])
def test_genai_answers_with_the_graphs_own_tokens(built: Find, case: str, target: str) -> None:
    bundle = Bundle.open(built(case, target))
    runtime = Runtime(bundle, threads=1)
    for prompt in ("What is the colour of the sky?", "Turn on the light in the kitchen."):
        ids = runtime.prompter.prompt([{"role": "user", "content": prompt}])
        session = GraphSession(bundle, threads=1)
        wanted = session.greedy(ids, 16, stop_ids=runtime.prompter.stop_ids)
        assert runtime.generate_ids(ids, max_new_tokens=16) == wanted
        assert len(wanted) > 4


@cases("cpu-int4", "cpu-int8", "cpu-fp32", "cuda-fp16")
def test_cache_has_a_fixed_head_size_and_the_names_runtimes_look_for(
    built: Find, case: str, target: str
) -> None:
    model = onnx.load(graph_of(built(case, target)), load_external_data=False)
    config = json.loads((built(case, "model") / "config.json").read_text())
    head_size = config.get("head_dim") or HIDDEN_SIZE // config["num_attention_heads"]
    shapes = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    kinds = layer_kinds(config)
    layers = [layer for layer, kind in enumerate(kinds) if kind != CONVOLUTION]
    for side in ("past_conv", "present_conv"):
        states = {name: shape for name, shape in shapes.items() if name.startswith(f"{side}.")}
        assert sorted(states) == [
            f"{side}.{layer}" for layer in range(len(kinds)) if layer not in layers
        ]
        assert all(shape == ["batch_size", HIDDEN_SIZE, 2] for shape in states.values())
    for prefix in ("past_key_values", "present"):
        expected = {f"{prefix}.{layer}.{part}" for layer in layers for part in ("key", "value")}
        named = {name for name in shapes if name.startswith(f"{prefix}.")}
        assert named == expected
        for name in named:
            assert shapes[name][0] == "batch_size"
            assert shapes[name][1] == config["num_key_value_heads"]
            assert shapes[name][3] == head_size
    assert shapes["logits"][2] == VOCAB_SIZE


@cases("cpu-int4", "cpu-int8", "cpu-fp32", "cuda-fp16")
def test_nothing_is_stored_twice(built: Find, case: str, target: str) -> None:
    model = onnx.load(graph_of(built(case, target)))
    stored: dict[bytes, str] = {}
    for tensor in model.graph.initializer:
        content = numpy_helper.to_array(tensor).tobytes()
        if len(content) >= 2048:
            assert stored.setdefault(content, tensor.name) == tensor.name
    # The transpose of a weight would be a second copy as well, and shows in the sum alone.
    data = graph_of(built(case, target)).with_suffix(".onnx_data").stat().st_size
    assert data < 1.02 * weight_bytes(built, case, target) + rotary_bytes(model) + 10_000


def weight_bytes(built: Find, case: str, target: str) -> int:
    """Bytes that the checkpoint's weights take in a target's own form, each of them once."""
    merged = SafetensorsSource.from_folder(built(case, "merge")).specs
    sizes = {name: int(np.prod(spec.shape)) for name, spec in merged.items()}
    if target in ("cpu-fp32", "cuda-fp16"):
        return sum(sizes.values()) * (2 if target == "cuda-fp16" else 4)
    quantized = QuantizedWeights.open(built(case, f"quantize-{target}"))
    codes = sum(spec.nbytes for spec in quantized.codes.specs.values())
    kept = [size for name, size in sizes.items() if name not in quantized.plan.weights]
    return codes + 4 * sum(kept)


def rotary_bytes(model: Any) -> int:
    names = ("cos_cache", "sin_cache")
    caches = [t for t in model.graph.initializer if t.name.startswith(names)]
    # Where two are chosen between, they lie in the branches of an If node.
    return sum(numpy_helper.to_array(t).nbytes for t in caches) or 4 * 512 * 8 * 4


@pytest.mark.parametrize(
    ("case", "target", "operators"),
    [
        ("llama", "cpu-int4", {"MatMulNBits": 11, "GatherBlockQuantized": 1, "MatMul": 0}),
        ("phi3", "cpu-int8", {"MatMulNBits": 11, "GatherBlockQuantized": 1, "MatMul": 0}),
        ("blocks-128", "cpu-int4", {"MatMulNBits": 11, "GatherBlockQuantized": 1, "MatMul": 0}),
        ("float-head", "cpu-int4", {"MatMulNBits": 10, "GatherBlockQuantized": 0, "MatMul": 1}),
        ("float-heads", "cpu-int8", {"MatMulNBits": 10, "GatherBlockQuantized": 0, "MatMul": 1}),
        ("llama", "cpu-fp32", {}),
    ],
)
def test_manifest_counts_the_operators(
    built: Find, case: str, target: str, operators: dict[str, int]
) -> None:
    bundle = built(case, target)
    result = json.loads((bundle / "edgepeft.json").read_text())["result"]
    assert result["operators"] == operators
    nodes = [node.op_type for node in onnx.load(graph_of(bundle)).graph.node]
    for operator in ("MatMulNBits", "GatherBlockQuantized"):
        assert nodes.count(operator) == operators.get(operator, 0)


@pytest.mark.parametrize(("case", "stops"), [("llama", 2), ("llama-untied", [2, 7])])
def test_every_stop_token_is_known_to_every_runtime(built: Find, case: str, stops: Any) -> None:
    bundle = built(case, "cpu-int4")
    genai = json.loads((bundle / "genai_config.json").read_text())["model"]
    generation = json.loads((bundle / "generation_config.json").read_text())
    assert genai["eos_token_id"] == generation["eos_token_id"] == stops
    result = json.loads((bundle / "edgepeft.json").read_text())["result"]
    assert result["prompt"]["stop_ids"] == (stops if isinstance(stops, list) else [stops])


@pytest.mark.parametrize(("case", "level"), [("llama", None), ("level-4", 4)])
def test_accuracy_level_stands_on_every_integer_product(
    built: Find, case: str, level: int | None
) -> None:
    bundle = built(case, "cpu-int4")
    nodes = onnx.load(graph_of(bundle), load_external_data=False).graph.node
    levels = [
        {a.name: a.i for a in node.attribute}.get("accuracy_level")
        for node in nodes
        if node.op_type == "MatMulNBits"
    ]
    assert levels == [level] * 11
    result = json.loads((bundle / "edgepeft.json").read_text())["result"]
    assert result["accuracy_level"] == (level or 0)


@pytest.mark.parametrize(
    ("target", "stem", "dtype"),
    [
        ("cpu-int4", "model_q4", "q4"),
        ("cpu-int8", "model_int8", "int8"),
        ("cpu-fp32", "model", "fp32"),
        ("cuda-fp16", "model_fp16", "fp16"),
    ],
)
def test_side_files_are_what_each_runtime_looks_for(
    built: Find, target: str, stem: str, dtype: str
) -> None:
    bundle = built("llama", target)

    def read(name: str) -> Any:
        return json.loads((bundle / name).read_text())

    genai = read("genai_config.json")["model"]
    assert genai["decoder"]["filename"] == f"onnx/{stem}.onnx"
    assert genai["context_length"] == 512
    assert (bundle / "onnx" / f"{stem}.onnx_data").is_file()
    config = read("config.json")
    assert config["transformers.js_config"] == {
        "dtype": dtype,
        "use_external_data_format": {f"{stem}.onnx": 1},
    }
    assert config["dtype"] == ("float16" if dtype == "fp16" else "float32")
    stop = read("generation_config.json")["eos_token_id"]
    assert stop == genai["eos_token_id"] == 2
    tokenizer = read("tokenizer_config.json")
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]
    assert tokenizer["chat_template"] == (bundle / "chat_template.jinja").read_text()
    result = read("edgepeft.json")["result"]
    assert result["target"] == target
    assert result["model_file"] == f"onnx/{stem}.onnx"
    assert result["prompt"]["mode"] == "chat"
    assert Bundle.open(bundle).gates is None
