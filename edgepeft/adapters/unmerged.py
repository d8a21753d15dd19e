"""What an adapter adds that no weight can take in: virtual tokens before a prompt, or layers of its own.

Prompt tuning (https://arxiv.org/abs/2104.08691) and p-tuning (https://arxiv.org/abs/2103.10385) learn embeddings,
prefix tuning (https://arxiv.org/abs/2101.00190) the keys and values of each layer. They come before everything
else, the beginning-of-sequence token included. Bottleneck adapters are small networks inside each layer. All of
it travels beside the merged weights, and the exporter puts it into the graph.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edgepeft.adapters.bottleneck_shape import bottleneck_tensors
from edgepeft.adapters.config import carried_as
from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.method import Carried
from edgepeft.errors import InputError

if TYPE_CHECKING:
    from edgepeft.adapters.adapter import Adapter

FILE = "unmerged.safetensors"
EMBEDDINGS = "prompt_embeddings"
"""PEFT's name for all that a prompt method stores."""


@dataclass(frozen=True)
class Unmerged:
    """The part of an adapter that stays beside the weights.

    ``carried`` says how. For ``tokens``, ``tensors`` holds ``embeddings`` float32 [n, H]: what stands for each
    virtual token where the model's own code puts a token's embedding. For ``prefix`` it holds ``keys`` and
    ``values`` float32 [layers, n, kv_heads * head_size], as the layers' caches begin with them. For ``layers``
    the names are those of ``bottleneck_tensors``, and ``activation`` is the networks'.
    """

    carried: Carried
    tensors: Mapping[str, torch.Tensor]
    activation: str = ""

    @property
    def virtual_tokens(self) -> int:
        """How many virtual tokens stand before every prompt."""
        if self.carried == "layers":
            return 0
        if self.carried == "prefix":
            return int(self.tensors["keys"].shape[1])
        return len(self.tensors["embeddings"])

    def write(self, folder: Path) -> None:
        """Leave it in a merged checkpoint's folder."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, str(folder / FILE), metadata=self._facts())

    def _facts(self) -> dict[str, str]:
        return {"carried": self.carried, "activation": self.activation}

    @classmethod
    def read(cls, folder: Path) -> Unmerged | None:
        """Read back ``write``; None where the folder's adapter was merged whole."""
        if not (folder / FILE).is_file():
            return None
        with safe_open(str(folder / FILE), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = file.metadata()
        return cls(facts["carried"], tensors, facts["activation"])


def unmerged_of(adapter: Adapter, config: Any) -> Unmerged | None:
    """What of an adapter stays beside the weights of a model with this transformers ``config``; None for nothing.

    Raises InputError where configuration, tensors and model contradict each other.
    """
    carried = carried_as(adapter.config)
    if carried == "tokens":
        width = int(config.hidden_size)
        return Unmerged(carried, {"embeddings": _prompt(adapter, {"token_dim": width}, width)})
    if carried == "prefix":
        return _prefix(adapter, config)
    if carried == "layers":
        where = (str(adapter.folder / CONFIG), str(adapter.folder / WEIGHTS))
        layers, width = int(config.num_hidden_layers), int(config.hidden_size)
        found = bottleneck_tensors(adapter.config, adapter.tensors, where, layers, width)
        return Unmerged(carried, found, str(adapter.config["activation"]))
    return None


def _prefix(adapter: Adapter, config: Any) -> Unmerged:
    """PEFT's one tensor [n, layers * 2 * width] taken apart: of each layer first the keys, then the values."""
    heads, layers = int(config.num_key_value_heads), int(config.num_hidden_layers)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = heads * int(size)
    wanted = {"token_dim": width, "num_attention_heads": heads, "num_layers": layers}
    whole = _prompt(adapter, wanted, 2 * layers * width)
    keys, values = whole.reshape(-1, layers, 2, width).permute(2, 1, 0, 3)
    return Unmerged("prefix", {"keys": keys, "values": values})


def _prompt(adapter: Adapter, wanted: Mapping[str, int], width: int) -> torch.Tensor:
    """The one tensor of a prompt method, float32 [n, width]; ``wanted`` is what its configuration must say."""
    where, weights = adapter.folder / CONFIG, adapter.folder / WEIGHTS
    for key, value in {**wanted, "num_transformer_submodules": 1}.items():
        if adapter.config.get(key) not in (None, value):
            raise InputError(
                f"{where}: {key}: {json.dumps(adapter.config[key])} is not this model's, which is {value}"
            )
    extra = sorted(set(adapter.tensors) - {EMBEDDINGS})
    if extra:
        raise InputError(f"{weights}: holds {extra[0]}, which {CONFIG} does not call for")
    if EMBEDDINGS not in adapter.tensors:
        raise InputError(f"{weights}: lacks {EMBEDDINGS}")
    tensor = adapter.tensors[EMBEDDINGS]
    shape = (adapter.config["num_virtual_tokens"], width)
    if tuple(tensor.shape) != shape:
        raise InputError(
            f"{weights}: {EMBEDDINGS} is {tuple(tensor.shape)}, but this model and {CONFIG} call for {shape}"
        )
    return tensor.to(torch.float32)
