"""The device profiles edgepeft ships with.

What a provider's kernels take was read in onnxruntime's operator documentation and sources and in the genai
graph builder: DirectML has MatMulNBits for 4 bits and no quantized lookup, so that head and embedding stay
floating there; TensorRT for RTX knows no contrib operator for integer weights and reads symmetric
DequantizeLinear. CUDA's mixed fp16/int4 kernels (fpA_intB) are asked for by a session entry: onnxruntime packs
the plain layout for Ampere or Hopper when the session opens, and keeps the ordinary kernel where a product does
not fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgepeft.targets import TargetProfile

_CPU: dict[str, Any] = {
    "provider": "CPUExecutionProvider",
    "builder_provider": "cpu",
    "io_dtype": "fp32",
    "needs": "edgepeft[cpu]",
}
_CUDA: dict[str, Any] = {
    "provider": "CUDAExecutionProvider",
    "builder_provider": "cuda",
    "needs": "an NVIDIA GPU and edgepeft[cuda]",
}
_TRT: dict[str, Any] = {
    "provider": "NvTensorRTRTXExecutionProvider",
    "builder_provider": "NvTensorRtRtx",
    "io_dtype": "fp16",
    "needs": "an NVIDIA RTX GPU and edgepeft[trt-rtx]",
}
_WEBGPU: dict[str, Any] = {
    "provider": "WebGpuExecutionProvider",
    "builder_provider": "webgpu",
    "needs": "a GPU with Vulkan, Metal or D3D12 and edgepeft[webgpu]; or a browser",
    # Measured: GroupQueryAttention answers as if there were no cap (onnxruntime-ep-webgpu 0.4.0).
    "ignored": ("attn_logit_softcapping",),
}
_DIRECTML: dict[str, Any] = {
    "provider": "DmlExecutionProvider",
    "builder_provider": "dml",
    "io_dtype": "fp16",
    "needs": "Windows, a D3D12 GPU and onnxruntime-directml",
}

_CPU_INT4 = TargetProfile(
    name="cpu-int4",
    summary="any CPU; 4-bit weights, products with 8-bit activations",
    precision="int4",
    file_stem="model_q4",
    js_dtype="q4",
    accuracy_level=4,
    **_CPU,
)

TARGETS: tuple[TargetProfile, ...] = (
    _CPU_INT4,
    TargetProfile(
        name="cpu-int8",
        summary="any CPU; 8-bit weights, products with 8-bit activations",
        precision="int8",
        file_stem="model_int8",
        js_dtype="int8",
        # There is no float kernel for 8-bit weights on CPUs: level 0 dequantizes every weight in every call.
        accuracy_level=4,
        **_CPU,
    ),
    TargetProfile(
        name="cpu-nf4",
        summary="any CPU; lossless: the 4-bit codes of training, the adapter unmerged; slow",
        precision="nf4",
        file_stem="model_bnb4",
        js_dtype="bnb4",
        **_CPU,
    ),
    TargetProfile(
        name="cpu-fp32",
        summary="any CPU; nothing rounded, the yardstick",
        precision="fp32",
        file_stem="model",
        js_dtype="fp32",
        **_CPU,
    ),
    TargetProfile(
        name="cuda-fp16",
        summary="NVIDIA GPU; half precision",
        precision="fp16",
        io_dtype="fp16",
        file_stem="model_fp16",
        js_dtype="fp16",
        **_CUDA,
    ),
    TargetProfile(
        name="cuda-bf16",
        summary="NVIDIA GPU from Ampere on; bfloat16, for models that overflow half precision",
        precision="bf16",
        io_dtype="bf16",
        file_stem="model_bf16",
        js_dtype=None,
        **_CUDA,
    ),
    TargetProfile(
        name="cuda-int4",
        summary="NVIDIA GPU; 4-bit weights, half-precision activations",
        precision="int4",
        io_dtype="fp16",
        file_stem="model_q4f16",
        js_dtype="q4f16",
        block_sizes=(32, 64, 128),
        graph_options={"enable_cuda_fpa_intb_gemm": "true"},
        **_CUDA,
    ),
    TargetProfile(
        name="trt-rtx-fp16",
        summary="NVIDIA RTX GPU through TensorRT; half precision",
        precision="fp16",
        file_stem="model_fp16",
        js_dtype="fp16",
        **_TRT,
    ),
    TargetProfile(
        name="trt-rtx-int4",
        summary="NVIDIA RTX GPU through TensorRT; 4-bit symmetric weights as DequantizeLinear",
        precision="int4",
        file_stem="model_q4f16",
        js_dtype="q4f16",
        block_sizes=(32, 64, 128),
        symmetric=(True,),
        heads=("float",),
        weight_layout="qdq",
        # Where the CPU runs this graph it makes MatMulNBits of it, by default with 8-bit activations.
        session_options={"session.qdq_matmulnbits_accuracy_level": "0"},
        **_TRT,
    ),
    TargetProfile(
        name="webgpu-int4",
        summary="any GPU, browsers too; 4-bit weights, half-precision activations",
        precision="int4",
        io_dtype="fp16",
        file_stem="model_q4f16",
        js_dtype="q4f16",
        **_WEBGPU,
    ),
    TargetProfile(
        name="webgpu-int4-fp32",
        summary="the same for GPUs without half precision (shader-f16): float32 activations",
        precision="int4",
        io_dtype="fp32",
        file_stem="model_q4",
        js_dtype="q4",
        graph_options={"use_webgpu_fp32": "true"},
        **_WEBGPU,
    ),
    TargetProfile(
        name="webgpu-fp16",
        summary="any GPU, browsers too; half precision",
        precision="fp16",
        io_dtype="fp16",
        file_stem="model_fp16",
        js_dtype="fp16",
        **_WEBGPU,
    ),
    # The same graph but for the lookup.
    replace(
        _CPU_INT4,
        name="wasm-int4",
        summary="any browser, with WebGPU or without; 4-bit weights, float32 activations",
        weight_layout="nbits-gather",
        needs="a browser with WebAssembly's SIMD, or edgepeft[cpu]",
    ),
    TargetProfile(
        name="directml-int4",
        summary="any GPU under Windows; 4-bit weights, half-precision activations",
        precision="int4",
        file_stem="model_q4f16",
        js_dtype="q4f16",
        heads=("float",),
        **_DIRECTML,
    ),
    TargetProfile(
        name="directml-fp16",
        summary="any GPU under Windows; half precision",
        precision="fp16",
        file_stem="model_fp16",
        js_dtype="fp16",
        **_DIRECTML,
    ),
)
