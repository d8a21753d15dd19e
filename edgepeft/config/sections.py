"""The sections of a recipe: each class is a mapping in the YAML, each field an option, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgepeft.bundle.layout import ADAPTER_NAME
from edgepeft.data.held_out import MOST_TESTED, HeldOut, hold_out
from edgepeft.utils.scalars import MOST

if TYPE_CHECKING:
    from edgepeft.data.formats import DataFile
    from edgepeft.data.rows import Row

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
LARGEST_SEED = 2**32 - 1
"""What numpy takes, which the trainer seeds with the same number."""


class Section(BaseModel):
    """A strict mapping: an unknown key is an error, and a value is never silently changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and abs(value) > MOST:
            raise ValueError(f"must not be larger than {MOST:g}")
        return value


def _a_number_too(schema: dict[str, Any]) -> None:
    """JSON Schema of what may be a number of rows besides."""
    schema["anyOf"] = [*schema["anyOf"], {"type": "integer", "minimum": 1}]


class Data(Section):
    """Training rows and test rows."""

    train: str | None = Field(
        None,
        description="Training rows: JSONL, JSON, CSV or Parquet, or on the hub hf://datasets/org/name/file, or "
        "hf://datasets/org/name#split; org/name@revision says at which commit.",
    )
    test: str | None = Field(
        None,
        description="Held-out rows that gates and report are measured on: a file, rows on the hub, or what to "
        "hold out of the training rows, as 10% or a number of rows.",
        json_schema_extra=_a_number_too,
    )
    split_seed: int = Field(
        0, ge=0, le=LARGEST_SEED, description="Seed of which rows are held out by data.test: 10%."
    )
    shape: Literal[
        "auto",
        "messages",
        "prompt",
        "instruction",
        "preference",
        "score",
        "labels",
        "label",
        "tags",
        "pairs",
        "text",
    ] = Field(
        "auto", description="Layout of a row; auto: detected from the columns of the first row."
    )
    labels: list[str] = Field(
        default_factory=list,
        description="A classifier's labels in the order of its outputs; default: the model's own, else those of "
        "the training rows, sorted.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Column names, ours to yours, as in {prompt: question, completion: answer}.",
    )
    system: str | None = Field(None, description="System message for rows that have none.")
    tokens: list[str] = Field(
        default_factory=list,
        description="New tokens, added to tokenizer and embedding, and trained if the method can train them.",
    )
    template: str = Field(
        "auto",
        description="auto (the model's chat template, else plain), chat, plain, or a Jinja file.",
    )
    max_length: int = Field(
        1024, ge=8, description="Training rows are truncated to this many tokens."
    )
    control_tokens: Literal["text", "tokens"] = Field(
        "text",
        description="What text that looks like a control token (<|im_end|>) is, in rows and in what a bundle is "
        "asked: text, or the token, as rows need that were rendered by a chat template already.",
    )
    max_test_rows: int = Field(
        MOST_TESTED,
        ge=1,
        description="Most test rows used for gates and report: the first ones of the file.",
    )
    generic: str | None = Field(
        None,
        description="Text file for the measures on generic text; default: a text that comes with edgepeft.",
    )

    @field_validator("test", mode="before")
    @classmethod
    def _holds_out_some(cls, value: Any) -> Any:
        """``data.test: 50`` says a number of rows."""
        if isinstance(value, (int, float)) and value is not True:
            value = str(value)
        if isinstance(value, str):
            HeldOut.parse(value)
        return value

    @property
    def held_out(self) -> HeldOut | None:
        """How much of the training rows is held out for the test; None where the test has a file of its own."""
        return None if self.test is None else HeldOut.parse(self.test)

    @property
    def test_file(self) -> str | None:
        """The file that the test rows are in: of their own, or the one they share with the training rows."""
        return self.train if self.held_out is not None else self.test

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Keys that say nothing of how the rows of one file are read and shared out."""
        own = () if self.held_out is not None else ("test", "split_seed")
        return ("train", "generic", "labels", *own)

    def train_rows(self, path: Path) -> list[Row]:
        """The rows of ``data.train``'s file that are trained on. Raises InputError, MissingError."""
        return self.split(self.read(path).rows)[0]

    def test_rows(self, path: Path) -> list[Row]:
        """The rows of ``test_file`` that are measured on. Raises InputError, MissingError."""
        rows = self.read(path).rows
        return rows if self.held_out is None else self.split(rows)[1]

    def split(self, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """The rows of ``data.train``'s file: those trained on, and those held out. Raises InputError."""
        held_out = self.held_out
        if held_out is None:
            return rows, []
        return hold_out(rows, held_out, self.split_seed, str(self.test).strip())

    def read(self, path: Path) -> DataFile:
        """A file of rows, read as this section says. Raises InputError, MissingError."""
        # A recipe is shown and checked before any row of it is read.
        from edgepeft.data.formats import read_file

        return read_file(path, columns=self.columns, shape=self.shape, system=self.system)


class Answer(Section):
    """What answers of the bundles are bounded by, unless a caller asks otherwise."""

    json_schema: str | None = Field(
        None,
        description="A file with a JSON Schema that every answer is to fit, as the rows' completions must. It "
        "goes into the bundle, and verify measures answers with and without it. Needs the extra guided.",
    )


class Method(Section):
    """The adapter to train."""

    name: str = Field(
        "qlora", description="A registered PEFT method; `edgepeft methods` lists them."
    )
    grid: Literal["auto", "none", "nf4", "fp4", "int8"] = Field(
        "auto",
        description="Quantization of the frozen base in training; auto: the method's own (nf4 for qlora).",
    )
    rank: int | None = Field(
        None, ge=1, le=4096, description="Rank r of the update; default: the method's (LoRA: 16)."
    )
    alpha: float | None = Field(
        None,
        gt=0,
        description="Scaling: the update is multiplied by alpha/rank; default: the method's (LoRA: 32).",
    )
    dropout: float | None = Field(
        None, ge=0.0, lt=1.0, description="Dropout on the adapter's input; default: none."
    )
    target_modules: str | list[str] = Field(
        "all-linear",
        description="all-linear, or module names as in [q_proj, v_proj]; methods that train norms or embeddings "
        "take those.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further hyperparameters under PEFT's names; `edgepeft methods NAME` lists a method's.",
    )


class AdapterPart(Section):
    """One of several adapters that are combined."""

    path: str = Field(description="A PEFT adapter: a folder, or org/name@revision on the hub.")
    weight: float = Field(1.0, description="Weight in the sum; a negative weight subtracts it.")
    rows: str | None = Field(
        None,
        description="Rows of its task, laid out as data says; combine.method regmean is fitted to them.",
    )


class FurtherAdapter(Section):
    """An adapter that goes into hot-swap bundles beside the recipe's own."""

    name: str = Field(pattern=f"^{ADAPTER_NAME.pattern}$", description="Its name in the bundle.")
    path: str = Field(
        description="A PEFT adapter (plain LoRA): a folder, or org/name@revision on the hub."
    )
    test: str | None = Field(
        None, description="Held-out rows to measure it on; default: data.test."
    )


class Combine(Section):
    """How the adapters of a list become one."""

    method: str = Field(
        "svd",
        description="linear, cat, svd, ties, dare_linear, dare_ties, magnitude_prune; the last four also with "
        "_svd; or regmean, which needs adapter.rows.",
    )
    density: float | None = Field(
        None, gt=0, le=1, description="Share of values that ties, dare and prune keep."
    )
    rank: int | None = Field(
        None, ge=1, le=4096, description="Rank of the result, for svd methods."
    )
    seed: int = Field(0, ge=0, description="Seed for the values that dare drops.")
    rows: int = Field(
        64,
        ge=1,
        description="Rows per adapter that regmean is fitted to, from the start of the file.",
    )


class Merge(Section):
    """What the adapter is merged into."""

    base: Literal["dequantized", "original", "requantized"] = Field(
        "dequantized",
        description="dequantized: the base as dequantized from the grid the adapter was trained on; original: "
        "the checkpoint's own weights; requantized: dequantized, then rounded back onto the grid after the merge "
        "as PEFT's merge into a 4-bit model does, which loses the adapter: for comparison only.",
    )
    grid: Literal["auto", "nf4", "fp4", "int8", "none"] = Field(
        "auto",
        description="Grid that an adapter made elsewhere was trained on; auto: read from the adapter's folder, "
        "else nf4 is assumed.",
    )
    allow_base_mismatch: bool = Field(
        False, description="Accept an adapter trained on another base model of the same shape."
    )
    save: bool = Field(True, description="Keep the merged checkpoint.")
