"""What is known of a model from its headers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edgepeft.errors import InputError
from edgepeft.models.quantized import Rounded

_COUNTED = ("layers", "hidden_size", "intermediate_size", "vocab_size")
_LARGEST = 1 << 27
_OWN_NAMES = {
    "distilbert": {
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "intermediate_size": "hidden_dim",
        "num_attention_heads": "n_heads",
    },
}
"""What kinds of model call sizes that others share a name for."""


def _value(config: Mapping[str, Any], key: str) -> Any:
    text = config.get("text_config")
    value = config.get(key)
    return text.get(key) if value is None and isinstance(text, dict) else value


def config_size(config: Mapping[str, Any], key: str) -> int:
    """A count of the configuration; 0 where it is none, or so large that tables of it could not be made."""
    value = _value(config, _OWN_NAMES.get(str(config.get("model_type")), {}).get(key, key))
    return value if type(value) is int and 0 < value <= _LARGEST else 0


class Header(NamedTuple):
    """Shape and type's name of a stored tensor."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ModelInfo:
    """A model on disk, known from its headers. Sizes are counts of elements unless said otherwise.

    A size that the configuration does not give is 0 and named in ``lacks``, with the reason. ``head_size`` is
    that of one attention head, None where the model has none. ``tensors`` are those stored, under the file's
    own names, rounded weights under those of the model; ``rounded`` says what is rounded already, and
    ``quantization`` in which format. ``inside`` is the architecture of a larger model that this is the language
    model of: its other tensors are not counted.
    """

    path: Path
    kind: Literal["folder", "gguf"]
    architecture: str
    parameters: int
    dtype: str
    file_bytes: int
    layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    tied_embeddings: bool
    context_length: int
    licence: str | None
    config: Mapping[str, Any]
    head_size: int | None = None
    inside: str | None = None
    lacks: tuple[str, ...] = ()
    tensors: Mapping[str, Header] = field(default_factory=dict, repr=False)
    quantization: str | None = None
    rounded: Rounded | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, for ``edgepeft inspect --json``."""
        left_out = {"config", "tensors", "lacks", "rounded"}
        facts = {
            # A size of 0 is one that the configuration does not give.
            name: getattr(self, name) or (None if name in _COUNTED else getattr(self, name))
            for name in self.__dataclass_fields__
            if name not in left_out
        }
        return {**facts, "path": str(self.path)}

    @property
    def embedding_parameters(self) -> int:
        """Elements of embedding and head together, counted once where they are tied."""
        return self.vocab_size * self.embedding_size * (1 if self.tied_embeddings else 2)

    @property
    def embedding_size(self) -> int:
        """Elements of a token's embedding, which some encoders project to ``hidden_size``."""
        own = self.config.get("model_type") in ("electra", "albert", "deberta", "deberta-v2")
        return (config_size(self.config, "embedding_size") if own else 0) or self.hidden_size

    @property
    def matrices(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Each module that has a weight of two dimensions, under the file's own name, with its shape."""
        for name, (shape, _) in self.tensors.items():
            if name.endswith(".weight") and len(shape) == 2:
                yield name.removesuffix(".weight"), shape

    @property
    def on_own_grid(self) -> bool:
        """Whether its weights came rounded in a way that no training rounds to, so that adapters saw them as they
        are.
        """
        return self.rounded is not None and self.rounded.grid is None

    def require_sizes(self) -> None:
        """Raise InputError where the configuration lacks a size that every supported model has."""
        if self.lacks:
            raise InputError(self.lacks[0])
