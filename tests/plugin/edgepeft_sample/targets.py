"""A target: a small board whose kernels take blocks of 64 alone."""

from __future__ import annotations

from edgepeft.targets import TargetProfile

TARGETS = (
    TargetProfile(
        name="board-int8",
        summary="a small board; 8-bit weights in blocks of 64",
        provider="CPUExecutionProvider",
        builder_provider="cpu",
        precision="int8",
        io_dtype="fp32",
        file_stem="model_board",
        js_dtype=None,
        needs="edgepeft[cpu]",
        accuracy_level=4,
        block_sizes=(64,),
    ),
)
