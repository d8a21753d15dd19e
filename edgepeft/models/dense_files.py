"""The Dense modules of sentence-transformers: a linear layer with an activation over a text's vector.

Only headers are read here; whoever computes loads the weights. Format:
https://sbert.net/docs/package_reference/sentence_transformer/modules.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.errors import InputError
from edgepeft.models.safetensors_header import FLOATS, read_header
from edgepeft.utils.files import read_json_object

WEIGHTS = "model.safetensors"
WEIGHT, BIAS = "linear.weight", "linear.bias"
Activation = Literal["identity", "tanh", "relu", "sigmoid"]
ACTIVATIONS: dict[str, Activation] = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}
_SENTENCE = "sentence_embedding"
_READ = ("in_features", "out_features", "bias", "activation_function")


@dataclass(frozen=True)
class DenseLayer:
    """A linear layer over a vector: the name of its folder, its sizes, and what follows the product."""

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: Activation


def module_settings(folder: Path) -> dict[str, Any]:
    """The configuration of a module that ``modules.json`` names. Raises InputError where there is none."""
    path = folder / "config.json"
    try:
        return read_json_object(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found, and modules.json names it") from None


def read_dense(folder: Path) -> DenseLayer:
    """A module's folder. Raises InputError for one that does not hold what its configuration says, or more."""
    path, said = folder / "config.json", module_settings(folder)
    for key, value in said.items():
        harmless = key in ("module_input_name", "module_output_name") and value in (None, _SENTENCE)
        if key not in _READ and value and not harmless:
            raise InputError(f"{path}: {key}: {value} changes the vectors and is not supported yet")
    sizes = [said.get(key) for key in ("in_features", "out_features")]
    if any(type(size) is not int or not 0 < size <= 1 << 20 for size in sizes):
        raise InputError(f"{path}: in_features and out_features must be numbers of features")
    bias = said.get("bias", True)
    if type(bias) is not bool:
        raise InputError(f"{path}: bias: must be true or false")
    # The package's own default where a configuration is silent.
    named = said.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = ACTIVATIONS.get(str(named))
    if activation is None:
        known = ", ".join(name.rpartition(".")[2] for name in ACTIVATIONS)
        raise InputError(
            f"{path}: activation_function: {named} is not supported; {known} of torch are"
        )
    layer = DenseLayer(folder.name, int(sizes[0] or 0), int(sizes[1] or 0), bias, activation)
    _check_weights(folder, layer)
    return layer


def _check_weights(folder: Path, layer: DenseLayer) -> None:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "pytorch_model.bin").is_file()
        mend = "; it has pytorch_model.bin alone, which may run code: save the model anew as safetensors"
        raise InputError(f"{path}: not found{mend if pickled else ''}")
    found = {name: (one.shape, one.dtype) for name, one in read_header(path).items()}
    wanted: dict[str, tuple[int, ...]] = {WEIGHT: (layer.out_features, layer.in_features)}
    if layer.bias:
        wanted[BIAS] = (layer.out_features,)
    for name, shape in wanted.items():
        if name not in found:
            raise InputError(f"{path}: lacks {name}, and its config.json calls for it")
        if found[name][0] != shape or found[name][1] not in FLOATS:
            raise InputError(
                f"{path}: {name} is {found[name][1]} {found[name][0]}, and its config.json calls for {shape}"
            )
    further = next((name for name in found if name not in wanted), None)
    if further is not None:
        raise InputError(f"{path}: holds {further}, which its config.json does not call for")


def check_chain(path: Path, layers: tuple[DenseLayer, ...], features: int | None) -> None:
    """Raise InputError, naming ``path``, where a layer does not take what comes before it: ``features`` of the
    model's, None where nobody knows them.
    """
    for layer in layers:
        if features is not None and layer.in_features != features:
            raise InputError(
                f"{path / layer.folder / 'config.json'}: in_features: {layer.in_features}, and the vectors "
                f"before it have {features} numbers"
            )
        features = layer.out_features
