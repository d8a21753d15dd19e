"""The recipe: every option of edgepeft, declared once.

The classes below are the YAML keys, the ``--set`` paths of the command line, the JSON Schema and the fields of
any form. A field's description is its help text everywhere. Paths in a recipe are relative to the recipe file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _names_stand_for_mappings(schema: dict[str, Any]) -> None:
    """JSON Schema of a list of sections: the short form of an item, its name or path alone, is valid too."""
    for part in (schema, *schema.get("anyOf", ())):
        if "items" in part:
            part["items"] = {"anyOf": [{"type": "string"}, part["items"]]}


def _one_stands_for_a_list(schema: dict[str, Any]) -> None:
    """The same, and a single name for the list."""
    _names_stand_for_mappings(schema)
    listed = {key: schema.pop(key) for key in ("type", "items", "minItems")}
    schema["anyOf"] = [{"type": "string"}, listed]


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
    batch_size: int = Field(8, ge=1, description="Rows per optimizer step and device.")
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


class AdapterPart(Section):
    """One of several adapters that are combined."""

    path: str = Field(description="A PEFT adapter folder.")
    weight: float = Field(1.0, description="How much it counts; negative takes it away.")


class FurtherAdapter(Section):
    """An adapter that goes into hot-swap bundles beside the recipe's own."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="What it is called there."
    )
    path: str = Field(description="A PEFT adapter folder (plain LoRA).")
    test: str | None = Field(
        None, description="Held-out rows that it is measured on; default: data.test."
    )


class Combine(Section):
    """How the adapters of a list become one."""

    method: str = Field(
        "svd",
        description="linear, cat, svd, ties, dare_linear, dare_ties, magnitude_prune; the last four with _svd "
        "too.",
    )
    density: float | None = Field(
        None, gt=0, le=1, description="Share of values that ties, dare and prune keep."
    )
    rank: int | None = Field(
        None, ge=1, le=4096, description="Rank of the result, for svd methods."
    )
    seed: int = Field(0, ge=0, description="Seed of what dare drops.")


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


class Recipe(Section):
    """From a model, data and targets to bundles with their proof."""

    model: str = Field(
        description="A folder, a .gguf file, a hub id, or a name that `edgepeft models` lists."
    )
    task: Literal[
        "auto",
        "text-generation",
        "text-classification",
        "token-classification",
        "feature-extraction",
    ] = Field(
        "auto",
        description="What the model is for; auto goes by its head, and for a bare encoder by the columns of "
        "the rows.",
    )
    data: Data = Field(default_factory=lambda: Data.model_validate({}))
    adapter: str | list[AdapterPart] | None = Field(
        None,
        description="A PEFT adapter folder to use instead of training one, or a list of them (folders, or "
        "mappings with path and weight) that are combined.",
        json_schema_extra=_names_stand_for_mappings,
    )
    adapters: list[FurtherAdapter] = Field(
        default_factory=list,
        description="Adapters beside the recipe's own for hot-swap targets, each measured against its own "
        "unmerged reference.",
    )
    combine: Combine = Field(default_factory=lambda: Combine.model_validate({}))
    method: Method = Field(default_factory=lambda: Method.model_validate({}))
    training: Training = Field(default_factory=lambda: Training.model_validate({}))
    merge: Merge = Field(default_factory=lambda: Merge.model_validate({}))
    quantize: Quantize = Field(default_factory=lambda: Quantize.model_validate({}))
    targets: list[Target] = Field(
        default_factory=lambda: [Target.model_validate({"name": "cpu-int4"})],
        min_length=1,
        description="What to build for: names, or mappings with a name.",
        json_schema_extra=_one_stands_for_a_list,
    )
    gates: Gates = Field(default_factory=lambda: Gates.model_validate({}))

    @field_validator("adapter", mode="before")
    @classmethod
    def _paths_are_parts(cls, value: Any) -> Any:
        """``adapter: [a, b]`` is short for ``adapter: [{path: a}, {path: b}]``."""
        if isinstance(value, list):
            return [{"path": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("targets", mode="before")
    @classmethod
    def _names_are_targets(cls, value: Any) -> Any:
        """``targets: [cpu-int4]`` is short for ``targets: [{name: cpu-int4}]``."""
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value

    @model_validator(mode="after")
    def _adapter_or_training(self) -> Recipe:
        """An adapter that exists leaves nothing for method and training to say."""
        if self.adapter is not None:
            given = sorted({"method", "training"} & self.model_fields_set)
            if given:
                raise ValueError(
                    f"adapter names an adapter that exists, so {' and '.join(given)} must go"
                )
        if not isinstance(self.adapter, list) and self.combine != Combine.model_validate({}):
            raise ValueError("combine says how a list of adapters becomes one; adapter is no list")
        for key, names in (
            ("targets", [target.name for target in self.targets]),
            ("adapters", [adapter.name for adapter in self.adapters]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key} names {twice[0]} twice")
        if self.adapters and all(target.adapters == "merged" for target in self.targets):
            raise ValueError(
                "adapters lists adapters for hot-swap targets, and no target has adapters: hot-swap"
            )
        return self


def promised(recipe: Recipe) -> Gates:
    """The gates, with what a budget in nats promises besides: what was chosen by it must keep it."""
    bounds = recipe.gates.model_dump()
    for key in ("max_task_kl", "max_generic_kl"):
        budget = getattr(recipe.quantize, key)
        if budget is not None:
            bounds[key] = min(budget, bounds[key]) if bounds[key] is not None else budget
    return Gates(**bounds)


def json_schema() -> dict[str, Any]:
    """The recipe's JSON Schema (draft 2020-12), for editors and forms."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "edgepeft recipe"
    return schema
