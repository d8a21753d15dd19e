"""What a bundle, or a recipe's target, may have onnxruntime do with its session: an allow-list with values.

onnxruntime's session options can write files (an optimized model, a profile, a compiled context), take weights
from anywhere, load libraries and read memory at addresses that are given as numbers. Only what chooses between
kernels or says how threads wait is let through. The keys are those of onnxruntime 1.31
(``onnxruntime_session_options_config_keys.h``) and of the providers that edgepeft has targets for.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgepeft.bundle.shape import FLAG, Items, Keys, Leaf, Shape, one_of, problem, text, whole

_ON_OFF = one_of("0", "1")
_MOST_BYTES = 1 << 40


def _digits(low: int, high: int) -> Leaf:
    """A whole number within bounds, as onnxruntime takes it: a string of digits."""
    return Leaf(
        f'a whole number from {low} to {high} as a string, as "{low}"',
        lambda value: (
            isinstance(value, str)
            and value.isascii()
            and value.isdecimal()
            and len(value) < 20
            and low <= int(value) <= high
        ),
    )


_SWITCHES = (
    "ep.cuda.fpa_intb_gemm",
    "mlas.disable_kleidiai",
    "mlas.enable_gemm_fastmath_arm64_bfloat16",
    "mlas.qnbit.force_fp32",
    "mlas.use_lut_gemm",
    "optimization.enable_cast_chain_elimination",
    "optimization.enable_gelu_approximation",
    "session.disable_aot_function_inlining",
    "session.disable_cpu_ep_fallback",
    "session.disable_double_qdq_remover",
    "session.disable_prepacking",
    "session.disable_qdq_constant_folding",
    "session.disable_quant_qdq",
    "session.enable_dq_matmulnbits_fusion",
    "session.enable_quant_qdq_cleanup",
    "session.force_spinning_stop",
    "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning",
    "session.prepack.enable_parallel",
    "session.qdqisint8allowed",
    "session.set_denormal_as_zero",
    "session.use_deterministic_compute",
    "session.use_device_allocator_for_initializers",
    "session.x64quantprecision",
)
CONFIG_ENTRIES: Mapping[str, Shape] = {
    **dict.fromkeys(_SWITCHES, _ON_OFF),
    "ep.cuda.gqa_workspace_max_total_sequence_length": _digits(0, 1 << 24),
    "optimization.disable_specified_optimizers": text(
        r"[A-Za-z0-9_]+([;,][A-Za-z0-9_]+)*", "optimizers' names, separated by ;", 1024
    ),
    "session.intra_op.spin_duration_us": _digits(0, 10_000_000),
    "session.inter_op.spin_duration_us": _digits(0, 10_000_000),
    "session.qdq_matmulnbits_accuracy_level": _digits(0, 4),
    "session.qdq_matmulnbits_block_size": one_of("0", "16", "32", "64", "128", "256"),
}
"""onnxruntime's configuration entries, as they stand among the session options of genai_config.json and
manifest.
"""

_PROVIDERS: Mapping[tuple[str, ...], Mapping[str, Shape]] = {
    ("cpu", "CPU", "CPUExecutionProvider"): {},
    ("cuda", "CUDA", "CUDAExecutionProvider"): {
        "arena_extend_strategy": one_of("kNextPowerOfTwo", "kSameAsRequested"),
        "cudnn_conv_algo_search": one_of("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
        "device_id": _digits(0, 255),
        "do_copy_in_default_stream": _ON_OFF,
        "enable_cuda_graph": _ON_OFF,
        "enable_skip_layer_norm_strict_mode": _ON_OFF,
        "gpu_mem_limit": _digits(1, _MOST_BYTES),
        "prefer_nhwc": _ON_OFF,
        "sdpa_kernel": _digits(0, 65_535),
        "use_tf32": _ON_OFF,
    },
    ("dml", "DML", "DmlExecutionProvider"): {
        "device_id": _digits(0, 255),
        "enable_graph_capture": _ON_OFF,
    },
    ("webgpu", "WebGPU", "WebGpuExecutionProvider"): {
        "enableGraphCapture": _ON_OFF,
        "enableInt64": _ON_OFF,
        "multiRotaryCacheConcatOffset": _digits(0, 1 << 30),
        "powerPreference": one_of("high-performance", "low-power"),
        "preferredLayout": one_of("NCHW", "NHWC"),
        "validationMode": one_of("disabled", "wgpuOnly", "basic", "full"),
    },
    ("nvtensorrtrtx", "NvTensorRtRtx", "NvTensorRTRTXExecutionProvider"): {
        "device_id": _digits(0, 255),
        "enable_cuda_graph": _ON_OFF,
        "multi_rotary_cache_concat_offset": _digits(0, 1 << 30),
        "nv_max_workspace_size": _digits(1, _MOST_BYTES),
        "nv_multi_profile_enable": _ON_OFF,
    },
}
"""Each provider's options, under every name that onnxruntime-genai knows the provider by."""

SESSION_OPTIONS = Keys(
    {
        **CONFIG_ENTRIES,
        "enable_cpu_mem_arena": FLAG,
        "enable_mem_pattern": FLAG,
        "graph_optimization_level": one_of(
            "ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"
        ),
        "inter_op_num_threads": whole(1, 256),
        "intra_op_num_threads": whole(1, 256),
        "log_id": text(r"[A-Za-z0-9_. -]*", "a plain name", 64),
        "log_severity_level": whole(0, 4),
        "log_verbosity_level": whole(0, 4),
        "provider_options": Items(
            Keys({name: Keys(known) for names, known in _PROVIDERS.items() for name in names}),
            most=len(_PROVIDERS),
        ),
    }
)
"""``session_options`` of genai_config.json."""


def entries_problem(entries: object, path: str) -> str | None:
    """What is wrong with configuration entries that go to a session as they are; None if nothing is."""
    return problem(entries, Keys(CONFIG_ENTRIES), path)
