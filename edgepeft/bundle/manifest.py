"""edgepeft.json: what a bundle says of itself, held to the types that its readers rely on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.bundle.files import AGAIN, Expected, read_json, require_inside
from edgepeft.bundle.genai_config import GENAI_CONFIG
from edgepeft.bundle.layout import ANSWER_SCHEMA
from edgepeft.bundle.session_options import entries_problem
from edgepeft.bundle.shape import (
    FLAG,
    NULL,
    STRING,
    Items,
    Keys,
    Leaf,
    Shape,
    either,
    one_of,
    problem,
    text,
    whole,
)
from edgepeft.data.template_modes import MODES
from edgepeft.errors import InputError, one_line
from edgepeft.models.tasks import ENCODER_TASKS, GENERATION

FORMAT = 1
MANIFEST = "edgepeft.json"

_MOST_VIRTUAL_TOKENS = 4096
_SIZE = whole(0, 1 << 26)
_SHA256 = text(r"[0-9a-f]{64}", "a SHA-256 in lower-case hex")
_FILE = Keys(
    {"bytes": whole(0, 1 << 50), "sha256": _SHA256}, frozenset({"bytes", "sha256"}), open=True
)
_GATES = either(
    one_of("passed"),
    Leaf(
        "",
        lambda gates: (
            isinstance(gates, list) and bool(gates) and all(isinstance(one, str) for one in gates)
        ),
    ),
    "'passed' or a list of what failed; run `edgepeft verify` again",
)
_OBJECT = Keys({}, open=True)
_DENSE = Keys(
    {
        "folder": STRING,
        "in_features": _SIZE,
        "out_features": _SIZE,
        "bias": FLAG,
        "activation": one_of("identity", "tanh", "relu", "sigmoid"),
    },
    frozenset({"folder", "in_features", "out_features", "bias", "activation"}),
)
_RESULT: Mapping[str, Shape] = {
    "model_file": STRING,
    "target": STRING,
    "provider": STRING,
    "verify_provider": STRING,
    "base": STRING,
    "task": STRING,
    "context_length": whole(1, 1 << 26),
    "vocab_size": _SIZE,
    "rotary_switch": whole(1, 1 << 26),
    "keeps_states": FLAG,
    "answer_schema": one_of(ANSWER_SCHEMA),
    "runtimes": Items(STRING, most=64),
    "session_options": _OBJECT,
    "prompt": Keys(
        {
            "mode": one_of(*MODES),
            "template_sha256": either(_SHA256, NULL, "a SHA-256 in lower-case hex, or null"),
            "stop_ids": Items(_SIZE),
            "vocab_size": _SIZE,
        },
        frozenset({"mode"}),
        open=True,
    ),
    "virtual_tokens": Keys(
        {"first": _SIZE, "count": whole(1, _MOST_VIRTUAL_TOKENS)},
        frozenset({"first", "count"}),
        open=True,
    ),
    "labels": Items(STRING),
    "paired": FLAG,
    "token_types": FLAG,
    "scoring": Keys(
        {"loss": one_of("bce", "mse"), "activation": one_of("sigmoid", "identity")}, open=False
    ),
    "pooling": either(
        Keys(
            {
                "mode": one_of("mean", "cls", "last"),
                "normalize": FLAG,
                "dense": Items(_DENSE, most=16),
            }
        ),
        NULL,
        "an object of mode (mean, cls or last), normalize and dense layers, or null",
    ),
}
_BUNDLE = Keys(
    {
        "outputs": _OBJECT,
        "settings": _OBJECT,
        "result": Keys(
            _RESULT,
            frozenset({"model_file", "target", "provider", "base", "context_length"}),
            open=True,
        ),
        "fidelity": Keys({"gates": _GATES}, frozenset({"gates"}), open=True),
    },
    frozenset({"outputs", "result"}),
    open=True,
)
_ADAPTER = Keys(
    {
        "kind": one_of("adapter"),
        "outputs": _OBJECT,
        "result": Keys({"binding": STRING}, frozenset({"binding"}), open=True),
        "fidelity": either(
            Keys({"gates": _GATES}, open=True), NULL, "an object with the gates' verdict"
        ),
    },
    frozenset({"kind", "outputs", "result"}),
    open=True,
)


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of the bundle folder ``root``. Raises InputError where there is none that can be relied on."""
    where = root / MANIFEST
    _require_bundle(root, where)
    manifest = read_json(where)
    _require_format(manifest, where)
    kind = manifest.get("kind")
    if kind != "bundle":
        raise InputError(f"{where}: kind is {kind!r}, not 'bundle'; give the folder of a bundle")
    _hold(manifest, _BUNDLE, where)
    result = manifest["result"]
    task = result.get("task", GENERATION)
    if task != GENERATION and task not in ENCODER_TASKS:
        raise InputError(f"{where}: result.task {task!r} is none that this edgepeft knows; {AGAIN}")
    if task == GENERATION and "prompt" not in result:
        raise InputError(f"{where}: result.prompt must be an object; {AGAIN}")
    if not result.get("runtimes", ["any"]):
        raise InputError(f"{where}: result.runtimes must be a list of names; {AGAIN}")
    wrong = entries_problem(result.get("session_options", {}), "result.session_options")
    if wrong is not None:
        raise InputError(f"{where}: {wrong}; {AGAIN}")
    return manifest


def read_adapter_manifest(where: Path) -> dict[str, Any]:
    """The manifest ``where`` of an adapter in a bundle. Raises InputError."""
    manifest = read_json(where)
    wrong = problem(manifest, _ADAPTER)
    if wrong is not None:
        raise InputError(f"{where}: not an adapter of a bundle ({wrong}); add the adapter again")
    return manifest


def expected_files(manifest: Mapping[str, Any], where: Path) -> dict[str, Expected]:
    """The files that a manifest lists, by their paths. Raises InputError for a path that leads out of its
    folder.
    """
    outputs: dict[str, Expected] = {}
    for name, entry in manifest["outputs"].items():
        require_inside(name, where)
        if problem(entry, _FILE) is not None:
            raise InputError(f"{where}: outputs.{name} must give bytes and sha256; {AGAIN}")
        outputs[name] = Expected(entry["bytes"], entry["sha256"])
    return outputs


def gates_of(manifest: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The verdict that a manifest keeps: None where nothing was measured, else what failed."""
    verdict = (manifest.get("fidelity") or {}).get("gates")
    if verdict is None:
        return None
    return () if verdict == "passed" else tuple(one_line(gate) for gate in verdict)


def _require_bundle(root: Path, where: Path) -> None:
    try:
        if not root.is_dir():
            kind = "is a file" if root.exists() else "does not exist"
            raise InputError(f"{root}: {kind}; give the bundle folder that `edgepeft build` wrote")
        if where.exists():
            return
        kind = "not a bundle"
        if (root / GENAI_CONFIG).exists():
            kind = "a model of onnxruntime-genai, not an edgepeft bundle"
    except OSError as error:
        raise InputError(f"{root}: cannot be read ({error.strerror})") from None
    raise InputError(
        f"{root}: {kind} (no {MANIFEST}); give the bundle folder that `edgepeft build` wrote"
    )


def _require_format(manifest: Mapping[str, Any], where: Path) -> None:
    version = manifest.get("format")
    if type(version) is not int:
        raise InputError(f"{where}: format must be a whole number; {AGAIN}")
    if version > FORMAT:
        made_by = one_line(manifest.get("edgepeft", "of unknown version"))[:40]
        raise InputError(
            f"{where}: made by a newer edgepeft {made_by} (format {version}, this one reads "
            f"{FORMAT}): upgrade with pip install --upgrade edgepeft"
        )
    if version < 1:
        raise InputError(f"{where}: format must be 1 or more; {AGAIN}")


def _hold(manifest: object, shape: Keys, where: Path) -> None:
    wrong = problem(manifest, shape)
    if wrong is not None:
        raise InputError(f"{where}: {wrong}; {AGAIN}")
