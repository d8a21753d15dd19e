"""The sections of a recipe that say how weights are rounded, for which targets, and what a bundle must reach."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ByteSize, Field, field_validator, model_validator

from edgepeft.bundle.session_options import entries_problem
from edgepeft.config.sections import Fraction, Section


def _units_are_text(schema: dict[str, Any]) -> None:
    """A number of bytes may be written with its unit."""
    schema["anyOf"].insert(0, {"type": "string", "pattern": r"^\s*\d+(\.\d*)?\s*[A-Za-z]+\s*$"})


HEAD_BLOCK_SIZE = 64
"""Least block size of a head of 8 bits on layers of 4, where the recipe doesn't say."""


class Calibration(Section):
    """Calibration data: rows of data.train and generic text, never rows that are measured on."""

    tokens: int = Field(3072, ge=64, description="Calibration tokens; more take longer.")
    task_share: Fraction = Field(
        0.25, description="Share of the calibration tokens taken from the training rows."
    )
    text: str | None = Field(
        None,
        description="Text file for the other tokens; default: a text that comes with edgepeft.",
    )
    seed: int = Field(0, ge=0, description="Seed for the choice of rows.")


class Quantize(Section):
    """How a target's precision is reached."""

    algorithm: str = Field(
        "auto",
        description="Quantization algorithm: gptq, k_quant or rtn; auto: gptq for 4-bit weights, rtn for 8-bit "
        "weights.",
    )
    block_size: Literal[16, 32, 64, 128] = Field(32, description="Weights that share one scale.")
    symmetric: bool = Field(False, description="Symmetric quantization, without zero points.")
    head: Literal["int4", "int8", "float"] = Field(
        "int8",
        description="Precision of head and embedding in integer targets; float: the target's float type.",
    )
    head_block_size: Literal[16, 32, 64, 128] | None = Field(
        None,
        description="Block size of head and embedding; default: block_size, but at least 64 for an 8-bit head on "
        "4-bit layers, which decodes faster at nearly the same accuracy.",
    )
    smooth: bool | None = Field(
        None,
        description="Move the scales of channels from activations into weights before quantization (smoothing), "
        "which changes no output and loses less; default: on for algorithm auto with 8-bit weights.",
    )
    learn_steps: int = Field(
        0,
        ge=0,
        description="Optimizer steps per layer that learn block scales after quantization, to restore the "
        "layer's output. Slow, see edgepeft plan: 40 is much, 0 turns it off.",
    )
    max_bytes: ByteSize | None = Field(
        None,
        description="Largest size of the whole bundle, as 105MB: the grid of each layer and of the head is then "
        "chosen by measured sensitivity instead of block_size, head and head_block_size; int4 targets only.",
        json_schema_extra=_units_are_text,
    )
    max_task_kl: float | None = Field(
        None,
        gt=0,
        description="Largest KL divergence on the task, in nats per token: the smallest bundle within it is "
        "built. Also a gate.",
    )
    max_generic_kl: float | None = Field(
        None, gt=0, description="The same bound on generic text; both may be given."
    )
    calibration: Calibration = Field(default_factory=Calibration)
    accuracy_level: Literal[0, 4] | None = Field(
        None,
        description="Activations in int4 and int8 matrix products: 0: float32, 4: rounded to int8; default: the "
        "target's.",
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
                "remove max_bytes, or max_task_kl and max_generic_kl: the first asks for the best bundle of a "
                "size, the others for the smallest bundle of a quality"
            )
        return self


class TargetGrid(Section):
    """Quantization settings of one target that differ from ``quantize``."""

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
        description="The target that your own device is derived from; name is then yours to choose.",
    )
    accuracy_level: Literal[0, 4] | None = Field(
        None, description="As quantize.accuracy_level, for this target alone."
    )
    quantize: TargetGrid = Field(default_factory=TargetGrid)
    adapters: Literal["merged", "hot-swap"] = Field(
        "merged",
        description="merged: the adapter becomes part of the weights; hot-swap: the base is exported once, and "
        "each adapter is a separate file, chosen at run time (CPU targets).",
    )
    adapter_rank: int = Field(
        64, ge=1, le=4096, description="Largest adapter rank that a hot-swap target accepts."
    )
    adapter_modules: str | list[str] = Field(
        "all-linear",
        description="Modules that adapters of a hot-swap target may change: all-linear, or names as in "
        "[q_proj, v_proj]; fewer are faster.",
    )
    graph_options: dict[str, str] = Field(
        default_factory=dict,
        description='Options of onnxruntime-genai\'s graph builder, as {enable_cuda_graph: "true"}.',
    )
    session_options: dict[str, str] = Field(
        default_factory=dict,
        description="onnxruntime's session configuration entries for the device's runtime; those that choose "
        "kernels or say how threads wait.",
    )

    @field_validator("session_options")
    @classmethod
    def _options_a_bundle_may_have(cls, value: dict[str, str]) -> dict[str, str]:
        """A bundle with any other would not be opened."""
        wrong = entries_problem(value, "")
        if wrong is not None:
            raise ValueError(wrong)
        return value


class Gates(Section):
    """Bounds that a bundle must keep, or the build exits with status 4; null turns a bound off."""

    max_exact_match_drop: Fraction | None = Field(
        0.03, description="Largest drop of exact match below the reference's."
    )
    max_task_kl: float | None = Field(
        0.05,
        ge=0,
        description="Largest mean KL(reference || bundle) on test rows, in nats per token of the completion; "
        "classifiers: per text or tagged word. Default for fp32 and nf4 targets: 0.00001.",
    )
    max_generic_kl: float | None = Field(
        None,
        ge=0,
        description="The same on generic text; off by default. Default for fp32 and nf4 targets: 0.00001.",
    )
    max_float_difference: float | None = Field(
        1e-4,
        ge=0,
        description="Largest difference of a logit between this build's graph with float weights and the model "
        "as transformers, PEFT and bitsandbytes load and compute it; divided by the logits' root mean square "
        "where that is above 1.",
    )
    min_reference_gain: float | None = Field(
        0.001,
        description="Smallest gain of training: how far the adapter's loss on test rows is below the base's, "
        "in nats per token. Not applied where exact match (classifiers: accuracy) rises by 0.01, nor by default "
        "to an existing adapter.",
    )
    min_exact_match: Fraction | None = Field(
        None, description="Smallest exact match; off by default."
    )
    max_accuracy_drop: Fraction | None = Field(
        0.03, description="Classifiers: largest drop of accuracy below the reference's."
    )
    max_span_f1_drop: Fraction | None = Field(
        0.03, description="Token classifiers: largest drop of span F1 below the reference's."
    )
    max_micro_f1_drop: Fraction | None = Field(
        0.03, description="Several labels a text: largest drop of micro F1 below the reference's."
    )
    max_ndcg_drop: Fraction | None = Field(
        0.03, description="Rankers: largest drop of nDCG below the reference's."
    )
    max_spearman_drop: Fraction | None = Field(
        0.03, description="Rankers: largest drop of Spearman's correlation below the reference's."
    )
    min_rank_agreement: Fraction | None = Field(
        0.95,
        description="Rankers: smallest share of pairs of passages that bundle and reference order alike.",
    )
    max_score_difference: float | None = Field(
        0.1,
        ge=0,
        description="Rankers: largest mean difference from the reference's scores, in standard deviations of "
        "these. Default for fp32 targets: 0.0032.",
    )
    min_cosine_similarity: Fraction | None = Field(
        0.97,
        description="Embeddings: smallest mean cosine between the bundle's vectors and the reference's.",
    )
