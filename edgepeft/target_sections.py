"""The sections of a recipe that say how weights are rounded, for which targets, and what a bundle must reach."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ByteSize, Field, model_validator

from edgepeft.sections import Fraction, Section
from edgepeft.targets import HEAD_BLOCK_SIZE


def _units_are_text(schema: dict[str, Any]) -> None:
    """A number of bytes may be written with its unit."""
    schema["anyOf"].insert(0, {"type": "string", "pattern": r"^\s*\d+(\.\d*)?\s*[A-Za-z]+\s*$"})


class Calibration(Section):
    """What calibrated rounding looks at: rows of data.train and generic text, never what is measured on."""

    tokens: int = Field(3072, ge=64, description="Tokens to look at; more cost time.")
    task_share: Fraction = Field(
        0.25, description="Share of the tokens taken from the training rows."
    )
    text: str | None = Field(
        None, description="Text file for the rest; default: a text edgepeft ships."
    )
    seed: int = Field(0, ge=0, description="Seed of the choice of rows.")


class Quantize(Section):
    """How a target's precision is reached."""

    algorithm: str = Field(
        "auto",
        description="A registered rounding algorithm: gptq, k_quant, rtn; auto: gptq for 4-bit weights, "
        "rtn for 8-bit ones.",
    )
    block_size: Literal[16, 32, 64, 128] = Field(32, description="Weights that share one scale.")
    symmetric: bool = Field(False, description="Blocks centred on zero, without zero points.")
    head: Literal["int4", "int8", "float"] = Field(
        "int8",
        description="How head and embedding are kept in integer targets; float: as the target computes.",
    )
    head_block_size: Literal[16, 32, 64, 128] | None = Field(
        None,
        description="Weights of head and embedding that share one scale; default: block_size, but at least 64 "
        "where the head has 8 bits and the layers 4: it decodes faster and loses next to nothing.",
    )
    smooth: bool | None = Field(
        None,
        description="Scales of channels moved from activations into weights, exactly, so that both lose less "
        "in rounding; default: where algorithm is auto and weights have 8 bits.",
    )
    learn_steps: int = Field(
        0,
        ge=0,
        description="Steps in which each layer's block scales are learned after rounding, so that it puts out "
        "what it did before; slow (see edgepeft plan), 40 is much, 0 is none.",
    )
    max_bytes: ByteSize | None = Field(
        None,
        description="Size of the whole bundle, as 105MB: the grid of each layer and of the head is then "
        "chosen by measured sensitivity instead of block_size, head and head_block_size; int4 targets only.",
        json_schema_extra=_units_are_text,
    )
    max_task_kl: float | None = Field(
        None,
        gt=0,
        description="Like max_bytes the other way round: the smallest bundle whose KL on the task, in nats "
        "per token, stays below; also a gate.",
    )
    max_generic_kl: float | None = Field(
        None, gt=0, description="The same on generic text; both may be given."
    )
    calibration: Calibration = Field(default_factory=lambda: Calibration.model_validate({}))
    accuracy_level: Literal[0, 4] | None = Field(
        None,
        description="Activations inside int4/int8 products: 0 keeps float32, 4 rounds to int8; "
        "default: the target's.",
    )

    def head_blocks(self, bits: int) -> int:
        """The block size of head and embedding, where they are on a grid and linear layers have ``bits``."""
        finer = self.head == "int8" and bits < 8
        return self.head_block_size or max(self.block_size, HEAD_BLOCK_SIZE if finer else 0)

    @property
    def budget(self) -> str | None:
        """The key that asks for grids chosen layer by layer, if one does."""
        keys = ("max_bytes", "max_task_kl", "max_generic_kl")
        return next((key for key in keys if getattr(self, key) is not None), None)

    @model_validator(mode="after")
    def _bytes_or_divergence(self) -> Quantize:
        """Both would be two answers to one question."""
        if self.max_bytes is not None and (self.max_task_kl or self.max_generic_kl):
            raise ValueError(
                "max_bytes asks for the best of a size, max_task_kl and max_generic_kl for the smallest of a "
                "quality: one or the other must go"
            )
        return self


class TargetGrid(Section):
    """What one target rounds otherwise than ``quantize`` says; a key left out follows it."""

    algorithm: str | None = Field(None, description="As quantize.algorithm.")
    block_size: Literal[16, 32, 64, 128] | None = Field(None, description="As quantize.block_size.")
    symmetric: bool | None = Field(None, description="As quantize.symmetric.")
    head: Literal["int4", "int8", "float"] | None = Field(None, description="As quantize.head.")
    head_block_size: Literal[16, 32, 64, 128] | None = Field(
        None, description="As quantize.head_block_size."
    )


class Target(Section):
    """One device to build for."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="A name that `edgepeft targets` lists, as cpu-int4; or your own, with like.",
    )
    like: str | None = Field(
        None,
        description="The target that a device of your own is like; then name is yours to choose.",
    )
    accuracy_level: Literal[0, 4] | None = Field(
        None, description="As quantize.accuracy_level, for this target alone."
    )
    quantize: TargetGrid = Field(default_factory=lambda: TargetGrid.model_validate({}))
    adapters: Literal["merged", "hot-swap"] = Field(
        "merged",
        description="merged: the adapter becomes part of the weights; hot-swap: the base is exported once, "
        "and each adapter is a file of its own that is chosen while it runs (CPU targets).",
    )
    adapter_rank: int = Field(
        64, ge=1, le=4096, description="Largest rank of an adapter that a hot-swap target takes."
    )
    adapter_modules: str | list[str] = Field(
        "all-linear",
        description="Modules that a hot-swap target keeps open for adapters: all-linear, or names as in "
        "[q_proj, v_proj]; fewer are faster.",
    )
    graph_options: dict[str, str] = Field(
        default_factory=dict,
        description='Options of onnxruntime-genai\'s graph builder, as {enable_cuda_graph: "true"}.',
    )
    session_options: dict[str, str] = Field(
        default_factory=dict,
        description="onnxruntime's session configuration entries for the device's runtime.",
    )


class Gates(Section):
    """Bounds a bundle must hold, or the build exits 4. null turns one off."""

    max_exact_match_drop: Fraction | None = Field(
        0.03, description="Exact match may fall this far below the reference's."
    )
    max_task_kl: float | None = Field(
        0.05,
        ge=0,
        description="Mean KL(reference || bundle) on test rows, in nats per token of a completion; classifiers: "
        "per text or tagged word. Targets in floating point: 0.00001 where nothing is said.",
    )
    max_generic_kl: float | None = Field(
        None,
        ge=0,
        description="The same on generic text; off by default, but for targets in floating point.",
    )
    max_float_difference: float | None = Field(
        1e-4,
        ge=0,
        description="Largest difference of a logit between the model as transformers, PEFT and bitsandbytes "
        "compute it by their own loading and the graph of this build with float weights, as a share of the "
        "logits' root mean square where that is above 1.",
    )
    min_reference_gain: float | None = Field(
        0.001,
        description="Nats per token by which training must lower the loss on test rows below the base's, unless "
        "it raises exact match (classifiers: accuracy) by a point. Holds by default where the build trains its "
        "adapter.",
    )
    min_exact_match: Fraction | None = Field(
        None, description="Absolute floor for exact match; off by default."
    )
    max_accuracy_drop: Fraction | None = Field(
        0.03, description="Classifiers: accuracy may fall this far below the reference's."
    )
    max_span_f1_drop: Fraction | None = Field(
        0.03, description="Token classifiers: span F1 may fall this far below the reference's."
    )
    min_cosine_similarity: Fraction | None = Field(
        0.97,
        description="Embeddings: mean cosine between the bundle's vectors and the reference's.",
    )
