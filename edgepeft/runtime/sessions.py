"""Opening and running onnxruntime sessions: on the provider asked for and no other, with errors in one line."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, InputError, MissingError, one_line
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.devices import CPU, PLUGINS, add_plugin, find_adapter
from edgepeft.utils.threads import chosen_threads

if TYPE_CHECKING:
    import onnxruntime as ort

Provider = str | tuple[str, dict[str, Any]]
"""An execution provider's name, or its name and options."""

_BFLOAT16 = 16
"""ONNX's number for the type; numpy has no bfloat16."""
_HEAVY = frozenset({"MatMul", "MatMulNBits", "MatMulBnb4", "GroupQueryAttention", "Attention"})
"""Operators that a device must run itself: onnxruntime leaves to the CPU whatever the device declines."""


def session_entries(bundle: Bundle) -> dict[str, str]:
    """The configuration entries that the bundle asks its runtime to open a session with."""
    model = bundle.genai_config.get("model", {})
    options = model.get("decoder", {}).get("session_options", {})
    options = options or bundle.manifest["result"].get("session_options", {})
    return {k: v for k, v in options.items() if "." in k and isinstance(v, str)}


def open_session(
    model_file: Path,
    threads: int | None,
    providers: Sequence[Provider],
    entries: Mapping[str, str],
) -> ort.InferenceSession:
    """A session on the first of ``providers`` and no other. Raises as ``GraphSession`` does."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingError(
            "needs onnxruntime: pip install 'edgepeft[cpu]' or 'edgepeft[cuda]'"
        ) from error
    if not model_file.is_file():
        raise InputError(f"{model_file}: no such ONNX file")
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    find_adapter(first)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # A memory plan is kept for every sequence length met, which a verifier meets hundreds of.
    options.enable_mem_pattern = False
    options.intra_op_num_threads = chosen_threads(threads)
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if first != CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if first in PLUGINS:
        add_plugin(options, first)
    chosen = {} if first in PLUGINS else {"providers": list(providers)}
    try:
        session = ort.InferenceSession(str(model_file), options, **chosen, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no base but this
        raise EdgepeftError(
            f"{model_file}: onnxruntime cannot load it ({one_line(error)})"
        ) from error
    _refuse_fallback(session, model_file, first)
    return session


def _refuse_fallback(session: ort.InferenceSession, model_file: Path, wanted: str) -> None:
    """Raise EdgepeftError unless ``wanted`` runs the graph: its provider, and every product and attention.

    onnxruntime puts the CPU in place of a provider that fails to start, or of one that declines an operator, and
    says nothing.
    """
    got = session.get_providers()[0]
    if got != wanted:
        raise EdgepeftError(
            f"{model_file}: asked for {wanted}, onnxruntime gave {got}; check the device and its driver"
        )
    if wanted == CPU:
        return
    strayed = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != wanted
        for node in part.get_nodes()
    }
    if strayed & _HEAVY:
        names = ", ".join(sorted(strayed & _HEAVY))
        raise EdgepeftError(f"{model_file}: {wanted} leaves {names} to the CPU")


def check_ids(model_file: Path, ids: Sequence[int], vocab_size: int) -> None:
    """Raise InputError for no ids or ids outside the vocabulary."""
    if not ids or min(ids) < 0 or max(ids) >= vocab_size:
        raise InputError(f"{model_file}: takes one or more token ids from 0 to {vocab_size - 1}")


def run_session(
    session: ort.InferenceSession,
    model_file: Path,
    wanted: Sequence[str],
    feed: Mapping[str, ort.OrtValue],
) -> list[ort.OrtValue]:
    """The ``wanted`` outputs, in that order and of the graph's shapes and types, for ``feed``, which has
    ``input_ids`` [rows, tokens]. Raises EdgepeftError when the graph fails.
    """
    try:
        return list(session.run_with_ort_values(list(wanted), dict(feed)))
    except Exception as error:  # onnxruntime's own exceptions share no base but this
        raise _failed(model_file, feed["input_ids"].shape()[-1], error) from error


def run_bound(
    session: ort.InferenceSession, model_file: Path, binding: ort.IOBinding, tokens: int
) -> None:
    """Run a session on what is bound, so many ``tokens``. Raises EdgepeftError when the graph fails."""
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # onnxruntime's own exceptions share no base but this
        raise _failed(model_file, tokens, error) from error


def _failed(model_file: Path, tokens: int, error: Exception) -> EdgepeftError:
    return EdgepeftError(f"{model_file}: onnxruntime failed on {tokens} tokens ({one_line(error)})")


def as_float32(value: ort.OrtValue) -> npt.NDArray[np.float32]:
    """Copy a float32, float16 or bfloat16 tensor on the CPU into a float32 array of its shape."""
    if value.element_type() != _BFLOAT16:
        return np.asarray(value.numpy(), dtype=np.float32)
    shape = value.shape()
    count = int(np.prod(shape))
    halves = np.ctypeslib.as_array((ctypes.c_uint16 * count).from_address(value.data_ptr()))
    # A bfloat16 is the upper half of a float32.
    wide: npt.NDArray[np.uint32] = halves.astype(np.uint32) << np.uint32(16)
    return wide.view(np.float32).reshape(shape)
