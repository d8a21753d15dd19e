"""Opening a bundle: reading its manifest and refusing what is incomplete, changed or unsafe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgepeft.bundle_layout import GENAI, LAYOUTS
from edgepeft.errors import InputError, one_line
from edgepeft.runtime.files import (
    AGAIN,
    Expected,
    compare,
    read_genai_config,
    read_json,
    require_inside,
    require_listed,
    vouch_for_graph,
)
from edgepeft.tasks import ENCODER_TASKS, GENERATION

FORMAT = 1
MANIFEST = "edgepeft.json"
GENAI_CONFIG = "genai_config.json"

Check = Literal["none", "sizes", "hashes"]
T = TypeVar("T")

_MAX_VIRTUAL_TOKENS = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
    positions by other factors, None for one that never does. ``gates`` is None when the bundle was never
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

    @classmethod
    def open(cls, path: Path | str, *, check: Check = "hashes") -> Bundle:
        """Read and check the bundle folder ``path``.

        ``check`` says how closely its files are compared with the manifest: "hashes" reads every
        byte, "sizes" only asks the file system, "none" does neither. Whatever it is, the graph, its
        external data and genai_config.json are examined for paths out of the folder, links, and
        code to load.

        Raises InputError, one line that names the file and the mend, for a folder that is no
        bundle, a manifest that is malformed or newer than this edgepeft, a file that is missing or
        changed, and anything unsafe.
        """
        root = Path(path).absolute()
        manifest = _read_manifest(root)
        where = root / MANIFEST
        outputs = _outputs(manifest, where)
        if check != "none":
            for name, expected in outputs.items():
                compare(root, name, expected, hashes=check == "hashes")
        model_name = _get(manifest, "result.model_file", str, where)
        task = manifest["result"].get("task", GENERATION)
        context_length = _get(manifest, "result.context_length", int, where)
        config: dict[str, Any] = {}
        graphs: list[str] = []
        runtimes = _runtimes(manifest, where)
        if task == GENERATION:
            mode = _get(manifest, "result.prompt.mode", str, where)
            # One that lies there is read by whoever hands the folder to onnxruntime-genai, so it is looked at.
            if GENAI in runtimes or (root / GENAI_CONFIG).exists():
                config, graphs = _generation_config(root, model_name, outputs)
                limit = _get(config, "model.context_length", int, root / GENAI_CONFIG)
                context_length = min(context_length, limit)
                vocab_size = _get(config, "model.vocab_size", int, root / GENAI_CONFIG)
            else:
                vocab_size = _get(manifest, "result.vocab_size", int, where)
        elif task in ENCODER_TASKS:
            vocab_size, mode = _get(manifest, "result.vocab_size", int, where), ""
        else:
            raise InputError(
                f"{where}: result.task {task!r} is none that this edgepeft knows; {AGAIN}"
            )
        for name in sorted({model_name, *graphs}):
            vouch_for_graph(root, name, outputs, where)
        return cls(
            path=root,
            manifest=manifest,
            task=task,
            runtimes=runtimes,
            genai_config=config,
            model_file=root / model_name,
            target=_get(manifest, "result.target", str, where),
            provider=_get(manifest, "result.provider", str, where),
            prompt_mode=mode,
            base=_get(manifest, "result.base", str, where),
            context_length=context_length,
            vocab_size=vocab_size,
            virtual_ids=_virtual_ids(manifest, where),
            gates=_gates(manifest, where),
            rotary_switch=_rotary_switch(manifest, where),
        )

    @property
    def warning(self) -> str | None:
        """One line for whoever is about to use this bundle, or None when all its gates passed."""
        if self.gates is None:
            return f"{self.path}: not verified against its adapter (`edgepeft verify` does that)"
        if self.gates:
            return f"{self.path}: failed its fidelity gates: {'; '.join(self.gates)}"
        return None


def _generation_config(
    root: Path, model_name: str, outputs: Mapping[str, Expected]
) -> tuple[dict[str, Any], list[str]]:
    """What onnxruntime-genai would read, and the graphs it names; it must name the manifest's."""
    require_listed(GENAI_CONFIG, outputs, root / MANIFEST)
    config, graphs = read_genai_config(root / GENAI_CONFIG)
    decoder = _get(config, "model.decoder.filename", str, root / GENAI_CONFIG)
    if decoder != model_name:
        raise InputError(
            f"{root / GENAI_CONFIG}: model.decoder.filename is {decoder!r} but {MANIFEST} says "
            f"{model_name!r}; {AGAIN}"
        )
    return config, graphs


def _read_manifest(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root}: {kind}; give the bundle folder that `edgepeft build` wrote")
    where = root / MANIFEST
    if not where.exists():
        kind = "not a bundle"
        if (root / GENAI_CONFIG).exists():
            kind = "a model of onnxruntime-genai, not an edgepeft bundle"
        raise InputError(
            f"{root}: {kind} (no {MANIFEST}); give the bundle folder that `edgepeft build` wrote"
        )
    manifest = read_json(where)
    version = _get(manifest, "format", int, where)
    if version > FORMAT:
        made_by = one_line(manifest.get("edgepeft", "of unknown version"))[:40]
        raise InputError(
            f"{where}: made by a newer edgepeft {made_by} (format {version}, this one reads "
            f"{FORMAT}): upgrade with pip install --upgrade edgepeft"
        )
    if version < 1:
        raise InputError(f"{where}: format must be 1 or more; {AGAIN}")
    kind = _get(manifest, "kind", str, where)
    if kind != "bundle":
        raise InputError(f"{where}: kind is {kind!r}, not 'bundle'; give the folder of a bundle")
    return manifest


def _get(tree: Mapping[str, Any], key: str, kind: type[T], where: Path) -> T:
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {str: "a string", int: "a whole number", dict: "an object"}[kind]
        raise InputError(f"{where}: {key} must be {wanted}; {AGAIN}")
    return value


def _outputs(manifest: Mapping[str, Any], where: Path) -> dict[str, Expected]:
    outputs: dict[str, Expected] = {}
    for name, entry in _get(manifest, "outputs", dict, where).items():
        require_inside(name, where)
        fields = entry if isinstance(entry, dict) else {}
        size, digest = fields.get("bytes"), fields.get("sha256")
        if type(size) is not int or not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            raise InputError(f"{where}: outputs.{name} must give bytes and sha256; {AGAIN}")
        outputs[name] = Expected(size, digest)
    return outputs


def _runtimes(manifest: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    """The runtimes a bundle is laid out for; those made before layouts are for all."""
    found = _get(manifest, "result", dict, where).get("runtimes", LAYOUTS["all"].runtimes)
    if isinstance(found, (list, tuple)) and found and all(isinstance(name, str) for name in found):
        return tuple(found)
    raise InputError(f"{where}: result.runtimes must be a list of names; {AGAIN}")


def _virtual_ids(manifest: Mapping[str, Any], where: Path) -> tuple[int, ...]:
    if "virtual_tokens" not in _get(manifest, "result", dict, where):
        return ()
    first = _get(manifest, "result.virtual_tokens.first", int, where)
    count = _get(manifest, "result.virtual_tokens.count", int, where)
    if first < 0 or not 1 <= count <= _MAX_VIRTUAL_TOKENS:
        raise InputError(f"{where}: result.virtual_tokens can't be; {AGAIN}")
    return tuple(range(first, first + count))


def _rotary_switch(manifest: Mapping[str, Any], where: Path) -> int | None:
    if "rotary_switch" not in _get(manifest, "result", dict, where):
        return None
    return _get(manifest, "result.rotary_switch", int, where)


def _gates(manifest: Mapping[str, Any], where: Path) -> tuple[str, ...] | None:
    if "fidelity" not in manifest:
        return None
    gates = _get(manifest, "fidelity", dict, where).get("gates")
    if gates == "passed":
        return ()
    if isinstance(gates, list) and gates and all(isinstance(gate, str) for gate in gates):
        return tuple(one_line(gate) for gate in gates)
    raise InputError(
        f"{where}: fidelity.gates must be 'passed' or a list of what failed; "
        "run `edgepeft verify` again"
    )
