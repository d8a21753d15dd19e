"""The sections of a recipe: each class is a mapping in the YAML, each field an option, declared once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgepeft.runtime.adapters import NAME

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


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
    control_tokens: Literal["text", "tokens"] = Field(
        "text",
        description="What text that looks like a control token (<|im_end|>) is, in rows and in what a bundle is "
        "asked: text, or the token, as rows need that were rendered by a chat template already.",
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
