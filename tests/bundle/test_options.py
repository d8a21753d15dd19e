"""What genai_config.json and a manifest may have a runtime do: what is on the list, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.bundle.genai_config import read_genai_config
from edgepeft.bundle.session_options import CONFIG_ENTRIES, entries_problem
from edgepeft.errors import InputError
from edgepeft.runtime import Bundle
from tests.command import edgepeft
from tests.runtime.fabricate import MODEL, edit_json, write_manifest

SESSION = "model.decoder.session_options"


def refusal(folder: Path, key: str, value: Any) -> str:
    """What is said of a bundle whose genai_config.json has ``value`` at ``key``."""
    edit_json(folder / "genai_config.json", key, value)
    write_manifest(folder)
    # Also where nothing is compared: the runtime obeys the file whatever was checked.
    with pytest.raises(InputError) as caught:
        Bundle.open(folder, check="none")
    message = str(caught.value)
    assert "\n" not in message
    return message


def session(folder: Path, entries: dict[str, Any]) -> str:
    """What is said of session options, which may have dots in their names."""
    return refusal(folder, SESSION, entries)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session.optimized_model_filepath", "/tmp/victim"),
        ("session.model_external_initializers_file_folder_path", "/tmp"),
        ("session.optimized_model_external_initializers_file_name", "x"),
        ("session.save_model_format", "ORT"),
        ("session.load_model_format", "ORT"),
        ("session.collect_node_memory_stats_to_file", "x.csv"),
        ("session.node_partition_config_file", "x"),
        ("session.resource_cuda_partitioning_settings", "1,x"),
        ("session.moe_expert_counter_state_file", "x"),
        ("session.save_external_prepacked_constant_initializers", "1"),
        ("session.use_ort_model_bytes_directly", "1"),
        ("session.use_env_allocators", "1"),
        ("session.intra_op_thread_affinities", "1;2"),
        ("session.enable_profiling", "1"),
        ("session.custom", "1"),
        ("ep.context_enable", "1"),
        ("ep.context_file_path", "../x.onnx"),
        ("ep.dynamic.workload_type", "x"),
        ("ep.share_ep_contexts", "1"),
        ("enable_profiling", "prefix"),
        ("custom_ops_library", "x.so"),
        ("custom_ops_library", ""),
        ("use_env_allocators", True),
        ("", "1"),
        ("session.\x1b[2J", "1"),
    ],
)
def test_an_option_that_is_not_on_the_list(small: Path, name: str, value: Any) -> None:
    message = session(small, {name: value})
    assert "genai_config.json: model.decoder.session_options." in message
    assert "is not among what may be set; take the bundle from a source you trust" in message
    assert "\x1b" not in message
    assert name.strip("\x1b") in message or repr(name) in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("intra_op_num_threads", 0),
        ("intra_op_num_threads", 10**9),
        ("intra_op_num_threads", 2.5),
        ("intra_op_num_threads", True),
        ("inter_op_num_threads", "2"),
        ("enable_mem_pattern", 1),
        ("log_severity_level", -1),
        ("log_id", "\x1b[31m"),
        ("log_id", "x" * 100),
        ("graph_optimization_level", "ALL"),
        ("session.intra_op.allow_spinning", 0),
        ("session.intra_op.allow_spinning", "yes"),
        ("session.intra_op.spin_duration_us", "99999999999999999999"),
        ("session.qdq_matmulnbits_accuracy_level", "5"),
        ("optimization.disable_specified_optimizers", "../x"),
        ("provider_options", {}),
        ("provider_options", ["cuda"]),
    ],
)
def test_a_value_that_an_option_does_not_have(small: Path, name: str, value: Any) -> None:
    assert f"{SESSION}.{name}" in (message := session(small, {name: value}))
    assert " must be " in message


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        ("qnn", {"backend_path": "./a.so"}),
        ("OpenVINO", {"cache_dir": "/tmp"}),
        ("VitisAI", {}),
        ("cpu", {"use_arena": "1"}),
        ("cuda", {"user_compute_stream": "140000000000000"}),
        ("cuda", {"gpu_external_alloc": "1"}),
        ("cuda", {"tunable_op_max_tuning_duration_ms": "1"}),
        ("CUDAExecutionProvider", {"enable_cuda_graph": True}),
        ("webgpu", {"dawnProcTable": "140000000000000"}),
        ("webgpu", {"webgpuInstance": "1"}),
        ("NvTensorRtRtx", {"nv_runtime_cache_path": "/tmp"}),
        ("NvTensorRtRtx", {"nv_dump_subgraphs": "1"}),
        ("dml", {"device_filtering_options": {}}),
        ("cuda", []),
    ],
)
def test_a_provider_or_an_option_of_one_that_is_not_on_the_list(
    small: Path, provider: str, options: Any
) -> None:
    message = session(small, {"provider_options": [{provider: options}]})
    assert f"{SESSION}.provider_options.0.{provider}" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.tokenizer_dir", "../other"),
        ("model.encoder.filename", "x.onnx"),
        ("model.embedding.filename", "/tmp/evil.onnx"),
        ("model.vision.config_filename", "../x.json"),
        ("model.vision.adapter_filename", "x.onnx_adapter"),
        ("model.speech.filename", "x.onnx"),
        ("model.joiner.filename", "x.onnx"),
        ("model.vad.filename", "x.onnx"),
        ("model.mtp.filename", "x.onnx"),
        ("model.draft.filename", "x.onnx"),
        ("model.dflash2", {}),
        ("model.decoder.shared_initializers", [{"name": "w", "data_file": "/etc/passwd"}]),
        ("model.decoder.pipeline", []),
        ("model.decoder.pipeline", {"a": {"filename": "x.onnx"}}),
        ("model.decoder.run_options", {"x": "y"}),
        ("model.decoder.state_groups", []),
        ("model.extra", "libfoo.so.1.2"),
        ("engine.dynamic_batching.block_size", 1),
        ("speculative.ngram_size", 3),
        ("search.unheard_of", 1),
        ("custom_ops_library", "x.so"),
    ],
)
def test_what_else_would_be_read_or_obeyed(small: Path, key: str, value: Any) -> None:
    message = refusal(small, key, value)
    assert "is not among what may be set" in message
    assert key.split(".")[0] in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", []),
        ("model.type", "../x"),
        ("model.vocab_size", 0),
        ("model.vocab_size", 2**40),
        ("model.context_length", "64"),
        ("model.eos_token_id", "2"),
        ("model.eos_token_id", list(range(1000))),
        ("model.bos_token_id", 1.5),
        ("model.decoder", "x"),
        ("model.decoder.filename", 4),
        ("model.decoder.filename", "C:\\x.onnx"),
        ("model.decoder.inputs.input_ids", "%s%n"),
        ("model.decoder.outputs.logits", ["logits"]),
        ("model.decoder.num_hidden_layers", 10**7),
        ("model.decoder.sliding_window.layers", "all"),
        ("search", None),
        ("search.temperature", "hot"),
        ("search.top_p", 2),
        ("search.num_beams", 10**6),
        ("search.chunk_size", -1),
    ],
)
def test_a_key_with_another_type_or_size(small: Path, key: str, value: Any) -> None:
    message = refusal(small, key, value)
    assert " must be " in message
    assert key in message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            '{"model": {"context_length": 64, "context_length": 65}}',
            "the key 'context_length' is given twice",
        ),
        ('{"search": {"temperature": NaN}}', "not finite"),
        ('{"search": {"temperature": 1e999}}', "not finite"),
        ('{"search": {"temperature": -Infinity}}', "not finite"),
        ("[" * 100_000, "not JSON"),
        ('{"model": {}} {}', "not JSON"),
        ('{"model": 1' + "0" * 5000 + "}", "not JSON"),
        ('{"model": "\udcff"}', "not UTF-8 text"),
        ("null", "must hold a JSON object"),
        (" " * (17 << 20), "longer than"),
    ],
)
def test_json_that_readers_may_take_differently(small: Path, text: str, wanted: str) -> None:
    (small / "genai_config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=wanted) as caught:
        read_genai_config(small / "genai_config.json")
    assert len(str(caught.value)) < 500


def test_options_that_choose_kernels_are_let_through(small: Path) -> None:
    options = {
        **dict.fromkeys(("session.disable_prepacking", "ep.cuda.fpa_intb_gemm"), "1"),
        "session.qdq_matmulnbits_accuracy_level": "0",
        "optimization.disable_specified_optimizers": "MatMulNBitsFusion;GeluFusion",
        "intra_op_num_threads": 2,
        "log_id": "onnxruntime-genai",
        "provider_options": [
            {"cuda": {"enable_cuda_graph": "0"}},
            {"NvTensorRtRtx": {"enable_cuda_graph": "1"}},
            {"dml": {}},
            {"webgpu": {"enableGraphCapture": "0", "validationMode": "basic"}},
        ],
    }
    edit_json(small / "genai_config.json", SESSION, options)
    write_manifest(small)
    found = Bundle.open(small).genai_config["model"]["decoder"]["session_options"]
    assert found == options


@pytest.mark.parametrize(
    "entries", [{"session.optimized_model_filepath": "x"}, ["x"], {"session.x": 1}]
)
def test_options_of_plain_onnxruntime_are_held_to_the_same_list(small: Path, entries: Any) -> None:
    """A bundle without genai_config.json keeps them in its manifest."""
    (small / "genai_config.json").unlink()
    write_manifest(small)
    for key, value in (
        ("result.runtimes", ["onnxruntime"]),
        ("result.vocab_size", 8),
        ("result.session_options", {"session.intra_op.allow_spinning": "0"}),
    ):
        edit_json(small / "edgepeft.json", key, value)
    Bundle.open(small)
    edit_json(small / "edgepeft.json", "result.session_options", entries)
    with pytest.raises(InputError, match=r"edgepeft\.json: result\.session_options"):
        Bundle.open(small)


def test_every_entry_of_the_list_is_a_string_of_one_known_form() -> None:
    """No entry takes a path, a name of a file, or any string at all."""
    for name in CONFIG_ENTRIES:
        for value in ("/tmp/x", "../x", "x.onnx", "x" * 5000, "", "\x00", 1, None, True):
            assert entries_problem({name: value}, "options") is not None, (name, value)


def test_a_victim_is_left_alone_and_the_status_is_2(tiny_bundle: Path, tmp_path: Path) -> None:
    """The command refuses before onnxruntime-genai opens the file."""
    import shutil

    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    config = json.loads((folder / "genai_config.json").read_text())
    options = config["model"]["decoder"]["session_options"]
    options["session.optimized_model_filepath"] = str(victim)
    (folder / "genai_config.json").write_text(json.dumps(config))
    write_manifest(folder, context_length=512)
    for command in (
        ("run", folder, "hi"),
        ("serve", folder),
        ("verify", folder),
        ("inspect", folder),
    ):
        done = edgepeft(*command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "session.optimized_model_filepath is not among what may be set" in done.stderr
    assert victim.read_text() == "precious"


def test_a_recipe_asks_for_options_of_the_same_list() -> None:
    from edgepeft.config.target_sections import Target

    Target(name="cpu-int4", session_options={"session.intra_op.allow_spinning": "0"})
    with pytest.raises(ValueError, match=r"session\.optimized_model_filepath is not among"):
        Target(name="cpu-int4", session_options={"session.optimized_model_filepath": "x"})


def test_what_the_graph_builder_writes_is_on_the_list(tiny_bundle: Path) -> None:
    config = read_genai_config(tiny_bundle / "genai_config.json")
    assert config["model"]["decoder"]["filename"] == MODEL
