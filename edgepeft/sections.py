"""The sections of a recipe: each class is a mapping in the YAML, each field an option, declared once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator

from edgepeft.runtime.adapters import NAME
from edgepeft.targets import HEAD_BLOCK_SIZE

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _units_are_text(schema: dict[str, Any]) -> None:
    """A number of bytes may be written with its unit."""
    schema["anyOf"].insert(0, {"type": "string", "pattern": r"^\s*\d+(\.\d*)?\s*[A-Za-z]+\s*$"})


class Section(BaseModel):
    """A strict mapping: an unknown key is an error, and a value is never silently changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """Which rows train and which rows judge."""

    train: str | None = Field(None, description="Training rows: JSONL, JSON, CSV or Parquet.")
    test: str | None = Field(
        None, description="Held-out rows that gates and report are measured on."
    )
    shape: Literal[
        "auto", "messages", "prompt", "instruction", "preference", "label", "tags", "pairs", "text"
    ] = Field(
        "auto", description="How a row is laid out; auto looks at the columns of the first row."
    )
    labels: list[str] = Field(
        default_factory=list,
        description="A classifier's labels in the order of its outputs; default: the model's own, else those of "
        "the training rows, sorted.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name to theirs, as in {prompt: question, completion: answer}.",
    )
    system: str | None = Field(None, description="System message put before rows that have none.")
    tokens: list[str] = Field(
        default_factory=list,
        description="New tokens: added to tokenizer and embedding, and trained where the method can.",
    )
    template: str = Field(
        "auto",
        description="auto (the model's chat template, else plain), chat, plain, or a Jinja file.",
    )
    max_length: int = Field(1024, ge=8, description="Tokens a training row is cut to.")
    max_test_rows: int = Field(
        200, ge=1, description="Test rows used by gates and report: the first that many."
    )
    generic: str | None = Field(
        None, description="Text file for the generic measures; default: the text edgepeft ships."
    )


class Method(Section):
    """The adapter to train."""

    name: str = Field(
        "qlora", description="A registered PEFT method; `edgepeft methods` lists them."
    )
    grid: Literal["auto", "none", "nf4", "fp4", "int8"] = Field(
        "auto",
        description="Grid of the frozen base while training; auto: the method's own (nf4 for qlora).",
    )
    rank: int | None = Field(
        None, ge=1, le=4096, description="Rank r of the update; default: the method's (LoRA: 16)."
    )
    alpha: float | None = Field(
        None,
        gt=0,
        description="Scaling numerator: the update counts alpha/rank; default: the method's (LoRA: 32).",
    )
    dropout: float | None = Field(
        None, ge=0.0, lt=1.0, description="Dropout on the adapter's input; default: none."
    )
    target_modules: str | list[str] = Field(
        "all-linear",
        description="all-linear (for methods of norms or embeddings: those), or module names as in "
        "[q_proj, v_proj].",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further hyperparameters under PEFT's names; `edgepeft methods NAME` lists a method's.",
    )


class Training(Section):
    """How the adapter is trained."""

    objective: Literal["supervised", "text", "preference"] = Field(
        "supervised",
        description="supervised: the answers' tokens; text: plain text, as in continued pretraining; "
        "preference: DPO on rows with prompt, chosen and rejected.",
    )
    beta: float = Field(
        0.1, gt=0, description="How close preference training stays to the base model."
    )
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps; overrides epochs.")
    epochs: float = Field(3.0, gt=0, description="Passes over the training rows.")
    batch_size: int = Field(8, ge=1, description="Rows per optimizer step and process.")
    gradient_accumulation: int = Field(1, ge=1, description="Batches summed into one step.")
    learning_rate: float = Field(2.0e-4, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "cosine", description="How the learning rate falls after warm-up."
    )
    warmup_steps: int = Field(3, ge=0, description="Steps over which the learning rate rises.")
    weight_decay: float = Field(0.0, ge=0.0, description="AdamW weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    eval_steps: int | None = Field(
        None, ge=1, description="Steps between evaluations; default: three in a training."
    )
    eval_rows: int = Field(
        16, ge=0, description="Test rows in the evaluation loss; 0 turns it off."
    )
    save_steps: int | None = Field(
        None, ge=1, description="Steps between checkpoints; default: six in a training."
    )
    seed: int = Field(0, ge=0, description="Seed of weights, data order and dropout.")
    processes: int = Field(
        1,
        ge=1,
        description="Processes that train together through `accelerate launch`, one a GPU where there are some; "
        "gradients are averaged, so a step takes batch_size rows of each.",
    )
    accelerate_config: str | None = Field(
        None,
        description="For processes on several hosts: the file that `accelerate config` wrote, which names them; "
        "processes counts all.",
    )


class AdapterPart(Section):
    """One of several adapters that are combined."""

    path: str = Field(description="A PEFT adapter folder.")
    weight: float = Field(1.0, description="How much it counts; negative takes it away.")
    rows: str | None = Field(
        None,
        description="Rows of its task, read as data says; combine.method regmean is fitted to them.",
    )


class FurtherAdapter(Section):
    """An adapter that goes into hot-swap bundles beside the recipe's own."""

    name: str = Field(pattern=f"^{NAME.pattern}$", description="What it is called there.")
    path: str = Field(description="A PEFT adapter folder (plain LoRA).")
    test: str | None = Field(
        None, description="Held-out rows that it is measured on; default: data.test."
    )


class Combine(Section):
    """How the adapters of a list become one."""

    method: str = Field(
        "svd",
        description="linear, cat, svd, ties, dare_linear, dare_ties, magnitude_prune; the last four with _svd "
        "too; or regmean, which needs adapter.rows.",
    )
    density: float | None = Field(
        None, gt=0, le=1, description="Share of values that ties, dare and prune keep."
    )
    rank: int | None = Field(
        None, ge=1, le=4096, description="Rank of the result, for svd methods."
    )
    seed: int = Field(0, ge=0, description="Seed of what dare drops.")
    rows: int = Field(
        64, ge=1, description="Rows of each adapter that regmean is fitted to, the first ones."
    )


class Merge(Section):
    """What the adapter is merged into."""

    base: Literal["dequantized", "original", "requantized"] = Field(
        "dequantized",
        description="dequantized: the base through the grid the adapter was trained on; "
        "original: the checkpoint's own weights; requantized: dequantized, and rounded back onto the grid "
        "after the merge as PEFT's merge into a 4-bit model does, which loses the adapter: for comparison.",
    )
    grid: Literal["auto", "nf4", "fp4", "int8", "none"] = Field(
        "auto",
        description="The grid an adapter made elsewhere was trained on; auto reads the adapter's "
        "folder and falls back to nf4.",
    )
    allow_base_mismatch: bool = Field(
        False, description="Take an adapter that was trained on another base of the same shape."
    )
    save: bool = Field(True, description="Keep the merged checkpoint as a folder of its own.")


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
        "chosen by measured sensitivity instead of block_size and head; int4 targets only.",
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
        "per text or tagged word.",
    )
    max_generic_kl: float | None = Field(
        None, ge=0, description="The same on generic text; off by default."
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
