"""What a decoder graph keeps of the tokens that it has read: its inputs, each with an output that renews it.

Keys and values grow by a place for each token. A short convolution keeps the last few values of each channel, a
state of one size whatever was read, which can't be taken back to an earlier token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgepeft.bundle.files import read_json
from edgepeft.bundle.genai_config import GENAI_CONFIG
from edgepeft.errors import InputError

if TYPE_CHECKING:
    import onnxruntime as ort

# onnxruntime's name of a tensor type to ONNX's number for it; numpy has no bfloat16.
_FLOAT_TYPES = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(bfloat16)": 16}
_NUMPY_TYPES: Mapping[int, npt.DTypeLike] = {1: np.float32, 10: np.float16}
_KEYS = "past_key_values."
_MOST_STATE = 1 << 24
"""Numbers in the state of a layer, of which models have some thousands."""
_STATE = re.compile(r"past_conv\.\d+")


@dataclass(frozen=True)
class CacheTensor:
    """One of a graph's inputs ``name`` for what it has read, and its output ``present`` that takes its place.

    Keys or values ``grow``: their ``shape`` is [1, kv heads, 0, head size], with tokens where the 0 is. A state's
    is [1, channels, width]. ``type`` is ONNX's number of the tensor type, ``dtype`` numpy's, where it has one.
    """

    name: str
    present: str
    shape: tuple[int, ...]
    type: int
    grows: bool

    @property
    def dtype(self) -> npt.DTypeLike | None:
        """What numpy calls its numbers; None for bfloat16, which it has not."""
        return _NUMPY_TYPES.get(self.type)

    def sized(self, rows: int, tokens: int) -> tuple[int, ...]:
        """Its shape for ``rows`` sequences of so many tokens."""
        inner = (self.shape[1], tokens, self.shape[3]) if self.grows else self.shape[1:]
        return (rows, *inner)

    def empty(self) -> ort.OrtValue:
        """That of one sequence of no tokens: a state is zero."""
        import onnxruntime as ort

        if self.dtype is not None:
            return ort.OrtValue.ortvalue_from_numpy(np.zeros(self.shape, self.dtype))
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            np.zeros(self.shape, np.uint16), self.type
        )


def cache_tensors(model_file: Path, inputs: Iterable[Any]) -> list[CacheTensor]:
    """Those of a graph with these ``inputs``, as onnxruntime describes them; others are none of ours to feed.

    Raises InputError for those without a fixed shape.
    """
    found = []
    for node in inputs:
        grows = node.name.startswith(_KEYS)
        known = grows or _STATE.fullmatch(node.name)
        if not known or node.type not in _FLOAT_TYPES:
            continue
        if len(node.shape) != (4 if grows else 3):
            raise InputError(
                f"{model_file}: {node.name} has {len(node.shape)} dimensions; the file is damaged"
            )
        present = re.sub(r"^past(_key_values)?", "present", node.name)
        shape = _key_shape(model_file, node.shape) if grows else (1, *node.shape[1:])
        if not all(isinstance(size, int) for size in shape):
            raise InputError(f"{model_file}: {node.name} has no fixed shape")
        if not grows and math.prod(shape) > _MOST_STATE:
            raise InputError(f"{model_file}: {node.name} is {shape}, too large for a state")
        found.append(CacheTensor(node.name, present, shape, _FLOAT_TYPES[node.type], grows))
    return found


def _key_shape(model_file: Path, shape: list[int | str]) -> tuple[int, ...]:
    heads, size = (dim if isinstance(dim, int) else 0 for dim in (shape[1], shape[3]))
    if not (heads and size):
        known_heads, known_size = _configured(model_file)
        heads, size = heads or known_heads, size or known_size
    return 1, heads, 0, size


def _configured(model_file: Path) -> tuple[int, int]:
    """(kv heads, head size) from the configuration beside or above a graph that has them open.

    Raises InputError where none says them.
    """
    for folder in (model_file.parent, model_file.parent.parent):
        if (folder / GENAI_CONFIG).is_file():
            found = _object(_object(read_json(folder / GENAI_CONFIG), "model"), "decoder")
            heads, size = found.get("num_key_value_heads"), found.get("head_size")
        elif (folder / "config.json").is_file():
            found = read_json(folder / "config.json")
            queries, width = found.get("num_attention_heads"), found.get("hidden_size")
            heads, size = found.get("num_key_value_heads") or queries, found.get("head_dim")
            if not size and type(queries) is int and type(width) is int and queries > 0:
                size = width // queries
        else:
            continue
        if isinstance(heads, int) and isinstance(size, int) and heads > 0 and size > 0:
            return heads, size
    raise InputError(
        f"{model_file}: its cache has no fixed shape and no {GENAI_CONFIG} or config.json says it"
    )


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}
