"""The device profiles edgepeft ships with."""

from __future__ import annotations

from edgepeft.targets import TargetProfile

TARGETS: tuple[TargetProfile, ...] = (
    TargetProfile(
        name="cpu-int4",
        summary="any CPU; 4-bit weights, products with 8-bit activations",
        provider="CPUExecutionProvider",
        builder_provider="cpu",
        precision="int4",
        io_dtype="fp32",
        file_stem="model_q4",
        accuracy_level=4,
    ),
    TargetProfile(
        name="cpu-int8",
        summary="any CPU; 8-bit weights, products with 8-bit activations",
        provider="CPUExecutionProvider",
        builder_provider="cpu",
        precision="int8",
        io_dtype="fp32",
        file_stem="model_int8",
        # There is no float kernel for 8-bit weights on CPUs: level 0 dequantizes every weight in every call.
        accuracy_level=4,
    ),
    TargetProfile(
        name="cpu-nf4",
        summary="any CPU; lossless: the 4-bit codes of training, the adapter unmerged; slow",
        provider="CPUExecutionProvider",
        builder_provider="cpu",
        precision="nf4",
        io_dtype="fp32",
        file_stem="model_bnb4",
    ),
    TargetProfile(
        name="cpu-fp32",
        summary="any CPU; nothing rounded, the yardstick",
        provider="CPUExecutionProvider",
        builder_provider="cpu",
        precision="fp32",
        io_dtype="fp32",
        file_stem="model",
    ),
    TargetProfile(
        name="cuda-fp16",
        summary="NVIDIA GPU; half precision",
        provider="CUDAExecutionProvider",
        builder_provider="cuda",
        precision="fp16",
        io_dtype="fp16",
        file_stem="model_fp16",
    ),
)
