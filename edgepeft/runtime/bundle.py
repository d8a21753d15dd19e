"""Opening a bundle: refusing what is incomplete, changed or unsafe before any runtime reads of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.bundle.files import (
    AGAIN,
    DamagedError,
    Outputs,
    compare,
    read_json,
    read_text,
    regular_file,
    require_listed,
)
from edgepeft.bundle.genai_config import GENAI_CONFIG, read_genai_config
from edgepeft.bundle.graph import vouch_for_graph
from edgepeft.bundle.layout import ADAPTERS, ANSWER_SCHEMA, GENAI, LAYOUTS
from edgepeft.bundle.listing import refuse_strays
from edgepeft.bundle.manifest import MANIFEST, expected_files, gates_of, read_manifest
from edgepeft.errors import InputError
from edgepeft.models.tasks import GENERATION

Check = Literal["none", "sizes", "hashes"]

_TEMPLATE, _TOKENIZER = "chat_template.jinja", "tokenizer_config.json"
_MOST_TEMPLATE_BYTES = 1 << 20
_MOST_SCHEMA_BYTES = 1 << 20
_MOST_BYTES = {
    ANSWER_SCHEMA: _MOST_SCHEMA_BYTES,
    "tokenizer.json": 256 << 20,
    _TEMPLATE: _MOST_TEMPLATE_BYTES,
}
_SIDE_FILES = frozenset(
    ("config.json", "generation_config.json", "special_tokens_map.json", _TOKENIZER)
)


@dataclass(frozen=True)
class Bundle:
    """A bundle folder that has been looked over; make one with ``Bundle.open``.

    ``path`` and ``model_file`` (the ONNX graph) are absolute, ``provider`` is onnxruntime's name of
    the execution provider it was built for, ``prompt_mode`` is "chat" or "plain".
    ``task`` is "text-generation" or one of those of encoders, which have neither a prompt mode nor a
    ``genai_config``; nor has a bundle whose ``runtimes``, those it is laid out for, are others.
    ``context_length`` is in tokens, prompt and answer together, ``vocab_size`` is the number of ids the graph
    knows. ``virtual_ids`` are those that its tokenizer and template put before every prompt, for adapters that
    are no change of weights. ``rotary_switch`` is the number of tokens past which the model rotates all
    positions by other factors, None for one that never does. A graph that ``keeps_states`` of what it has read
    can't go back to an earlier token. ``answer_schema`` is the text of the JSON Schema
    that bounds answers where nobody asks otherwise. ``gates`` is None when the bundle was never
    verified, empty when every fidelity gate passed, else one line for each that failed.
    """

    path: Path
    manifest: Mapping[str, Any]
    task: str
    runtimes: tuple[str, ...]
    genai_config: Mapping[str, Any]
    model_file: Path
    target: str
    provider: str
    prompt_mode: str
    base: str
    context_length: int
    vocab_size: int
    virtual_ids: tuple[int, ...]
    gates: tuple[str, ...] | None
    rotary_switch: int | None = None
    answer_schema: str | None = None
    keeps_states: bool = False

    @classmethod
    def open(cls, path: Path | str, *, check: Check = "hashes") -> Bundle:
        """Read and check the bundle folder ``path``.

        ``check`` says how closely its files are compared with the manifest: "hashes" reads every byte (once a
        process, as long as a file stays the same), "sizes" only asks the file system, "none" does neither.
        Whatever it is, the graph and genai_config.json are examined for what they would have a runtime do, and a
        file that the manifest does not list and a runtime might read is refused, as are links, pipes and devices.

        Raises InputError, one line that names the file and the mend, for a folder that is no
        bundle, a manifest that is malformed or newer than this edgepeft, a file that is missing or
        changed, and anything unsafe.
        """
        root = Path(path).absolute()
        manifest = read_manifest(root)
        where = root / MANIFEST
        outputs = expected_files(manifest, where)
        for name in outputs:
            regular_file(root, name)
        refuse_strays(root, outputs, besides=(MANIFEST, ADAPTERS))
        for name, expected in outputs.items() if check != "none" else ():
            compare(root, name, expected, hashes=check == "hashes")
        result = manifest["result"]
        task = result.get("task", GENERATION)
        runtimes = tuple(result.get("runtimes", LAYOUTS["all"].runtimes))
        config: dict[str, Any] = {}
        # One that lies there is read by whoever hands the folder to onnxruntime-genai, so it is looked at.
        if task == GENERATION and (GENAI in runtimes or GENAI_CONFIG in outputs):
            config = _generation_config(root, result["model_file"], outputs)
        model = config.get("model", {})
        vocab_size = model.get("vocab_size", result.get("vocab_size"))
        if vocab_size is None:
            raise InputError(f"{where}: result.vocab_size must be a whole number; {AGAIN}")
        vouch_for_graph(root, result["model_file"], outputs, where)
        side_files = _read_side_files(root, outputs)
        if task == GENERATION:
            _hold_template(root, result["prompt"], outputs, side_files)
        lead = result.get("virtual_tokens", {"first": 0, "count": 0})
        return cls(
            path=root,
            manifest=manifest,
            task=task,
            runtimes=runtimes,
            genai_config=config,
            model_file=root / result["model_file"],
            target=result["target"],
            provider=result["provider"],
            prompt_mode=result["prompt"]["mode"] if task == GENERATION else "",
            base=result["base"],
            context_length=min(
                result["context_length"], model.get("context_length", result["context_length"])
            ),
            vocab_size=vocab_size,
            virtual_ids=tuple(range(lead["first"], lead["first"] + lead["count"])),
            gates=gates_of(manifest),
            rotary_switch=result.get("rotary_switch"),
            answer_schema=_answer_schema(root, result, outputs),
            keeps_states=result.get("keeps_states", False),
        )

    @property
    def warning(self) -> str | None:
        """One line for whoever is about to use this bundle, or None when all its gates passed."""
        if self.gates is None:
            return f"{self.path}: not verified against its adapter (`edgepeft verify` does that)"
        if self.gates:
            return f"{self.path}: failed its fidelity gates: {'; '.join(self.gates)}"
        return None


def _answer_schema(root: Path, result: Mapping[str, Any], outputs: Outputs) -> str | None:
    """The text of the schema that bounds answers, held to be JSON; None where there is none."""
    name = result.get("answer_schema")
    if name is None:
        return None
    require_listed(name, outputs, root / MANIFEST)
    read_json(root / name)
    return read_text(root / name, _MOST_SCHEMA_BYTES)


def _generation_config(root: Path, model_name: str, outputs: Outputs) -> dict[str, Any]:
    """What onnxruntime-genai would read; the graph it names must be the manifest's."""
    require_listed(GENAI_CONFIG, outputs, root / MANIFEST)
    config = read_genai_config(root / GENAI_CONFIG)
    decoder = config["model"]["decoder"]["filename"]
    if decoder != model_name:
        raise InputError(
            f"{root / GENAI_CONFIG}: model.decoder.filename is {decoder!r} but {MANIFEST} says "
            f"{model_name!r}; {AGAIN}"
        )
    return config


def _read_side_files(root: Path, outputs: Outputs) -> dict[str, dict[str, Any]]:
    """The configurations beside a graph, each held to be JSON that every reader takes alike."""
    for name, most in _MOST_BYTES.items():
        if name in outputs and outputs[name].size > most:
            raise InputError(f"{root / name}: longer than {most} bytes; {AGAIN}")
    return {name: read_json(root / name) for name in outputs if name in _SIDE_FILES}


def _hold_template(
    root: Path,
    prompt: Mapping[str, Any],
    outputs: Outputs,
    side_files: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse a chat template other than the one that was trained and measured with, in every file that has it."""
    wanted = prompt.get("template_sha256")
    if wanted is None or prompt["mode"] != "chat":
        return
    templates: dict[str, str] = {}
    if _TEMPLATE in outputs:
        templates[_TEMPLATE] = read_text(root / _TEMPLATE, _MOST_TEMPLATE_BYTES)
    if isinstance(inside := side_files.get(_TOKENIZER, {}).get("chat_template"), str):
        templates[_TOKENIZER] = inside
    for name, source in templates.items():
        # A template that came with other line ends may have been hashed before they were made alike.
        forms = (source, source.replace("\r\n", "\n"))
        if wanted not in {hashlib.sha256(form.encode()).hexdigest() for form in forms}:
            raise DamagedError(
                f"{root / name}: another chat template than the one that was measured "
                f"(result.prompt.template_sha256 in {MANIFEST}); {AGAIN}"
            )
