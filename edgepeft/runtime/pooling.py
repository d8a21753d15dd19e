"""One vector of a text's token vectors: pooled, through linear layers, at unit length, as a model's files say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.bundle.files import AGAIN, require_inside, require_listed
from edgepeft.bundle.manifest import MANIFEST
from edgepeft.errors import InputError
from edgepeft.models.dense_files import BIAS, WEIGHT, WEIGHTS, DenseLayer
from edgepeft.models.sentence_files import Pooling
from edgepeft.runtime.bundle import Bundle

Array = npt.NDArray[np.float32]
_Step = Callable[[Array], Array]


def sigmoid(numbers: Array) -> Array:
    """1 / (1 + exp(-x)), written so that nothing overflows."""
    found: Array = 0.5 * (1.0 + np.tanh(0.5 * numbers))
    return found


_ACTIVATIONS: dict[str, _Step] = {
    "identity": lambda vector: vector,
    "tanh": np.tanh,
    "relu": lambda vector: np.maximum(vector, 0),
    "sigmoid": sigmoid,
}


class Pooler:
    """Makes one vector float32 [H] of a text's token vectors [T, H]; further layers may change H."""

    def __init__(self, pooling: Pooling, folder: Path) -> None:
        """``folder`` holds the linear layers. Raises InputError for weights that are not as ``pooling`` says."""
        self.pooling = pooling
        self._steps = [_dense(folder, layer) for layer in pooling.dense]

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Pooler:
        """That of a bundle for embeddings. Raises InputError for layers that its manifest does not vouch for."""
        where = bundle.path / MANIFEST
        said: Mapping[str, Any] = bundle.manifest["result"].get("pooling") or {}
        dense = tuple(DenseLayer(**layer) for layer in said.get("dense", ()))
        for layer in dense:
            require_inside(layer.folder, where)
            require_listed(f"{layer.folder}/{WEIGHTS}", bundle.manifest["outputs"], where)
        plain = {key: value for key, value in said.items() if key != "dense"}
        return cls(Pooling(**plain, dense=dense), bundle.path)

    def __call__(self, vectors: Array) -> Array:
        """The vector of one text, whose tokens are all there are."""
        vector = _POOL[self.pooling.mode](vectors)
        for step in self._steps:
            vector = step(vector)
        if not self.pooling.normalize:
            return vector
        return vector / max(float(np.linalg.norm(vector)), 1e-12)


_POOL: dict[str, _Step] = {
    "mean": lambda vectors: vectors.mean(axis=0),
    "cls": lambda vectors: vectors[0],
    "last": lambda vectors: vectors[-1],
}


def _dense(folder: Path, layer: DenseLayer) -> _Step:
    from safetensors.numpy import load_file

    path = folder / layer.folder / WEIGHTS
    stored = load_file(path)
    weight, bias = stored.get(WEIGHT), stored.get(BIAS) if layer.bias else None
    whole = weight is not None and weight.shape == (layer.out_features, layer.in_features)
    if not whole or (layer.bias and (bias is None or bias.shape != (layer.out_features,))):
        raise InputError(f"{path}: is not the layer that {MANIFEST} describes; {AGAIN}")
    activation = _ACTIVATIONS[layer.activation]

    def step(vector: Array) -> Array:
        product = weight @ vector
        return activation(product if bias is None else product + bias)

    return step
