"""Writes what is made of declarations: the pages of recipe keys, of options and of models, and the schema.

    python tools/reference_pages.py

The pages are kept in the repository, so that they can be read and linked without building the site;
``tests/docs/test_reference.py`` fails where one is not today's.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main

from edgepeft.cli.commands import app
from edgepeft.config.schema import SCHEMA_FILE, json_schema
from edgepeft.models.text_part import ALONE, LARGER
from edgepeft_exporters.decoder import EXPORTER as DECODER
from edgepeft_exporters.encoder import EXPORTER as ENCODER

DOCS = Path(__file__).resolve().parents[1] / "docs"
_NOTE = "<!-- written by tools/reference_pages.py: change the declaration and run it again -->"
Schema = Mapping[str, Any]


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    return {
        "recipe-reference.md": "\n".join(_recipe_page()) + "\n",
        "commands-reference.md": "\n".join(_commands_page()) + "\n",
        "models.md": "\n".join(_models_page()) + "\n",
    }


def _models_page() -> Iterator[str]:
    decoders, encoders = DECODER.proven(), ENCODER.proven()
    yield "# Models"
    yield from ("", _NOTE, "")
    yield "Families that bundles are made of. Each was held against transformers and PEFT by their own"
    yield "loading, with each option of its configuration, at short prompts and past every window and threshold;"
    yield "the largest difference of a logit is that of the float bundle over all configurations."
    yield "`edgepeft models --supported` prints it, `EDGEPEFT_MATRIX=record pytest tests/architectures` measures"
    yield "it anew, and `edgepeft plan` says in one line why a model is refused."
    yield from ("", "## That generate", "")
    yield "As safetensors folders, sharded or not; Llama, Mistral, Qwen, Gemma and Phi-3 as GGUF files too. int4"
    yield "KL, in nats, is what rounding to the nearest of 4 bits costs the tiny random models of the tests: it"
    yield "shows that the comparison sees something. What it costs a model of yours is measured by its build."
    yield ""
    yield "| family | configurations | largest difference | int4 KL | rotary scaling | computed by |"
    yield "|---|---|---|---|---|---|"
    for one in decoders:
        rotary, runtimes = ", ".join(one.rotary) or "–", ", ".join(one.runtimes)
        yield (
            f"| {one.family} | {one.configurations} | {one.difference:.1e} | {one.int4_kl:.3f} | {rotary} | "
            f"{runtimes} |"
        )
    yield from (
        "",
        "Every target takes them, but for what [Platforms and targets](targets.md) says of",
    )
    yield "Gemma 2 on WebGPU. All of them train, merge, round with calibration and take adapters side by side;"
    yield "what adapters may bring is told in [Methods](methods.md#adapters-from-elsewhere), what LFM2's"
    yield "convolutions can't take in [Platforms and targets](targets.md#models)."
    yield from ("", "## Inside a larger model", "")
    yield "Of a folder of one of these models, which also take images, the language model is taken alone, where"
    yield "it is of a kind below. The tests hold it against the whole model without an image, and so does the"
    yield "second witness of every build. Adapters trained on the whole fit: what they change for images"
    yield "is left out, as plan and card say. The weights must not be quantized already."
    yield from ("", f"Models: {', '.join(LARGER)}.")
    yield from ("", f"Kinds of language model: {', '.join(ALONE)}.")
    yield from ("", "## That classify, tag and embed", "")
    yield "| family | configurations | largest difference |"
    yield "|---|---|---|"
    for one in encoders:
        yield f"| {one.family} | {one.configurations} | {one.difference:.1e} |"


def _recipe_page() -> Iterator[str]:
    schema = json_schema()
    yield "# Recipe keys"
    yield from ("", _NOTE, "")
    yield "Every key of a recipe, from the schema that `edgepeft schema` prints. A key of a section is set on the"
    yield "command line as `--set training.max_steps=10`. [Recipes](recipe.md) shows one as a whole."
    yield from ("", "## The recipe", "")
    yield from _table(schema, schema)
    for path, section in _sections(schema, schema, ""):
        yield from ("", f"## {path}", "", section["description"], "")
        yield from _table(section, schema)


def _sections(section: Schema, schema: Schema, above: str) -> Iterator[tuple[str, Schema]]:
    """Every section below one with its path, a list's entries as ``targets[]``."""
    for key, value in section["properties"].items():
        for reference, many in _references(value):
            path = f"{above}{key}{'[]' if many else ''}"
            inner = schema["$defs"][reference.rsplit("/", 1)[1]]
            yield path, inner
            yield from _sections(inner, schema, f"{path}.")


def _references(value: Schema, many: bool = False) -> Iterator[tuple[str, bool]]:
    """The sections that a key may hold, and whether it holds a list of them."""
    if "$ref" in value:
        yield value["$ref"], many
    for other in value.get("anyOf", ()):
        yield from _references(other, many)
    if "items" in value:
        yield from _references(value["items"], True)


def _table(section: Schema, schema: Schema) -> Iterator[str]:
    yield "| key | type | default | |"
    yield "|---|---|---|---|"
    for key, value in section["properties"].items():
        needed = key in section.get("required", ())
        default = "needed" if needed else _default(value)
        said = value.get("description") or _described(value, schema)
        yield f"| `{key}` | {_cell(_type(value))} | {_cell(default)} | {_cell(said)} |"


def _default(value: Schema) -> str:
    given = value.get("default")
    return "" if given is None else f"`{json.dumps(given)}`"


def _described(value: Schema, schema: Schema) -> str:
    """What a key says that is a section itself."""
    return " ".join(
        schema["$defs"][reference.rsplit("/", 1)[1]]["description"]
        for reference, _ in _references(value)
    )


def _type(value: Schema) -> str:
    """A key's type in words, with its choices or its bounds."""
    if "$ref" in value:
        return "section"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "anyOf" in value:
        kinds = [_type(one) for one in value["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    kind = str(value.get("type", "any value"))
    if kind == "array":
        inner = _type(value["items"]) if value.get("items") else "any values"
        return f"list of: {inner}"
    words = {"object": "mapping", "string": "text", "boolean": "true or false"}
    return words.get(kind, kind) + _bounds(value)


def _bounds(value: Schema) -> str:
    said = [
        f"{word} {value[key]}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in value
    ]
    return f", {' '.join(said)}" if said else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _commands_page() -> Iterator[str]:
    yield "# Commands and their options"
    yield from ("", _NOTE, "")
    yield "What `edgepeft COMMAND --help` shows. [Commands](commands.md) says in a line what each is for."
    root = typer.main.get_command(app)
    for name, command in _leaves(root, "edgepeft"):
        yield from ("", f"## {name}", "")
        yield inspect.cleandoc(command.help or "").replace("<", "&lt;")
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        yield from ("", "```text", f"{name} {usage}")
        if command.epilog:
            yield str(command.epilog)
        yield from ("```", "")
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None and record[0] != "--help":
                yield _listed(record[0], record[1])


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The commands that do something, each with the words that call it."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, inner in command.commands.items():
        yield from _leaves(inner, f"{name} {word}")


def _listed(names: str, said: str) -> str:
    text = " ".join(said.split()).replace("<", "&lt;")
    return f"- `{names}`{': ' + text if text else ''}"


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
