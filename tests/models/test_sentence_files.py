"""The files of sentence-transformers: used, told of, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgepeft.errors import InputError
from edgepeft.models.dense_files import DenseLayer, check_chain
from edgepeft.models.sentence_files import Pooling, read_sentence_files, sentence_files
from edgepeft.runs.digests import DigestCache

NEW = "sentence_transformers.sentence_transformer.modules"


def write(
    folder: Path,
    modules: tuple[str, ...] = ("Transformer", "Pooling", "Normalize"),
    pooling: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    transformer: dict[str, Any] | None = None,
    package: str = "sentence_transformers.models",
) -> Path:
    """A folder with the files of a model that texts go through."""
    listed = []
    for index, kind in enumerate(modules):
        place = "" if index == 0 else f"{index}_{kind}"
        listed.append(
            {"idx": index, "name": str(index), "path": place, "type": f"{package}.{kind}"}
        )
        (folder / place).mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(listed))
    said = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True, **(pooling or {})}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    if settings is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    if transformer is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps(transformer))
    return folder


def test_a_folder_without_them_means_the_mean_at_unit_length(tmp_path: Path) -> None:
    found = read_sentence_files(tmp_path)
    assert (found.pooling, found.max_tokens, found.lowers) == (Pooling("mean", True), None, False)


def test_what_decides_about_vectors_is_part_of_a_model(tmp_path: Path) -> None:
    """Also a second layer's weights: a vector of before must not pass for one of after."""
    assert sentence_files(tmp_path) == []
    write(tmp_path, ("Transformer", "Pooling", "Dense", "Dense"))
    weights = tmp_path / "3_Dense/model.safetensors"
    save_file({"linear.weight": np.zeros((2, 2), np.float32)}, weights)
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1/model.safetensors").write_bytes(b"none of it")
    names = sentence_files(tmp_path)
    assert names == ["1_Pooling/config.json", "3_Dense/model.safetensors", "modules.json"]
    digests = [DigestCache(tmp_path / "store").folder(tmp_path, further=names)]
    save_file({"linear.weight": np.ones((2, 2), np.float32)}, weights)
    digests.append(DigestCache(tmp_path / "other").folder(tmp_path, further=names))
    assert len(set(digests)) == 2


@pytest.mark.parametrize(
    ("modules", "pooling", "wanted"),
    [
        (("Transformer", "Pooling"), {}, Pooling("mean", False)),
        (("Transformer", "Pooling", "Normalize"), {}, Pooling("mean", True)),
        (("Transformer", "Pooling", "Dropout", "Normalize"), {}, Pooling("mean", True)),
        (
            ("Transformer", "Pooling"),
            {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
            Pooling("cls", False),
        ),
        (
            ("Transformer", "Pooling"),
            {"pooling_mode_mean_tokens": False, "pooling_mode": "cls"},
            Pooling("cls", False),
        ),
        (
            ("Transformer", "Pooling", "Normalize"),
            {"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True},
            Pooling("last", True),
        ),
    ],
)
def test_pooling_and_normalization(
    tmp_path: Path, modules: tuple[str, ...], pooling: dict[str, Any], wanted: Pooling
) -> None:
    assert read_sentence_files(write(tmp_path, modules, pooling)).pooling == wanted


def with_dense(folder: Path, **changed: Any) -> Path:
    """A folder whose vectors of 64 go through a layer to 32 with a tanh; ``changed`` are keys of it."""
    write(folder, ("Transformer", "Pooling", "Dense", "Normalize"))
    said: dict[str, Any] = {"in_features": 64, "out_features": 32, "bias": True}
    said["activation_function"] = "torch.nn.modules.activation.Tanh"
    (folder / "2_Dense" / "config.json").write_text(json.dumps({**said, **changed}))
    tensors = {"linear.weight": np.zeros((32, 64), np.float32), "linear.bias": np.zeros(32)}
    save_file(tensors, folder / "2_Dense" / "model.safetensors")
    return folder


def test_linear_layers_over_a_vector(tmp_path: Path) -> None:
    layer = DenseLayer("2_Dense", 64, 32, bias=True, activation="tanh")
    found = read_sentence_files(with_dense(tmp_path)).pooling
    assert found == Pooling("mean", True, (layer,))
    check_chain(tmp_path, found.dense, 64)
    with pytest.raises(
        InputError, match=r"2_Dense/config\.json: in_features: 64, and the vect.* 72"
    ):
        check_chain(tmp_path, found.dense, 72)
    with pytest.raises(InputError, match=r"in_features: 64, and the vectors before it have 32"):
        check_chain(tmp_path, (layer, layer), 64)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"out_features": 31}, r"linear\.weight is F32 \(32, 64\), and .* calls for \(31, 64\)"),
        ({"bias": False}, r"holds linear\.bias, which its config\.json does not call for"),
        ({"bias": 1}, "bias: must be true or false"),
        ({"in_features": "64"}, "must be numbers of features"),
        (
            {"activation_function": "torch.nn.modules.activation.GELU"},
            "activation_function: torch.nn.modules.activation.GELU is not supported; Tanh, Identity",
        ),
        ({"activation_function": "os.system"}, "activation_function: os.system is not supported"),
        ({"use_residual": True}, "use_residual: True changes the vectors"),
        ({"module_input_name": "token_embeddings"}, "module_input_name: token_embeddings changes"),
    ],
)
def test_a_layer_that_is_not_as_it_says_is_refused(
    tmp_path: Path, changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match) as raised:
        read_sentence_files(with_dense(tmp_path, **changed))
    assert "\n" not in str(raised.value)


def test_a_layer_that_was_pickled_is_never_opened(tmp_path: Path) -> None:
    folder = with_dense(tmp_path) / "2_Dense"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has pytorch_model\.bin alone, which may run code"):
        read_sentence_files(tmp_path)


def test_new_names_of_the_modules_are_known(tmp_path: Path) -> None:
    assert read_sentence_files(write(tmp_path, package=NEW)).pooling == Pooling("mean", True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"modules": ("Transformer", "Dense", "Pooling")}, "goes through Transformer, Dense"),
        ({"modules": ("Transformer", "Pooling", "Normalize", "Normalize")}, "goes through Transf"),
        ({"modules": ("Transformer", "Pooling", "LayerNorm")}, "its module LayerNorm"),
        ({"modules": ("WordEmbeddings", "Pooling")}, "its module WordEmbeddings"),
        ({"package": "custom_st"}, "its module Transformer changes"),
        ({"modules": ("Transformer", "Normalize", "Pooling")}, "goes through Transformer, Norm"),
        ({"modules": ()}, "goes through nothing"),
        ({"pooling": {"pooling_mode_max_tokens": True}}, "pools by max_tokens, mean_tokens"),
        (
            {"pooling": {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}},
            "pools by max_tokens; only mean, cls and lasttoken are supported",
        ),
        (
            {"pooling": {"pooling_mode_weightedmean_tokens": True}},
            "pools by mean_tokens, weightedmean_tokens",
        ),
        ({"pooling": {"pooling_mode_mean_tokens": False}}, "pools by nothing"),
        ({"pooling": {"new_mode": True}}, "pools by mean_tokens, new_mode"),
        (
            {"settings": {"prompts": {"query": "query: "}, "default_prompt_name": "query"}},
            "default_prompt_name: puts the prompt query before every text",
        ),
        ({"settings": {"truncate_dim": 128}}, "truncate_dim: cuts every vector to 128 numbers"),
        ({"settings": {"prompts": [1]}}, "prompts: must map names to texts"),
        ({"transformer": {"max_seq_length": -1}}, "max_seq_length: -1 is no number of tokens"),
    ],
)
def test_what_would_change_the_vectors_is_refused_by_name(
    tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        read_sentence_files(write(tmp_path, **options))


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("../elsewhere", "lies outside the model's folder"),
        ("/etc", "lies outside the model's folder"),
        ("0_Transformer", "keeps its transformer in 0_Transformer; move the files"),
    ],
)
def test_modules_lie_where_they_may(tmp_path: Path, path: str, match: str) -> None:
    write(tmp_path)
    file = tmp_path / "modules.json"
    modules = json.loads(file.read_text())
    modules[0]["path"] = path
    file.write_text(json.dumps(modules))
    with pytest.raises(InputError, match=match):
        read_sentence_files(tmp_path)


@pytest.mark.parametrize("text", ["{", "3", '[{"path": ""}]', "[" * 100_000])
def test_damaged_lists_of_modules(tmp_path: Path, text: str) -> None:
    write(tmp_path)
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(InputError, match=r"modules\.json: (not readable|goes through)"):
        read_sentence_files(tmp_path)


def test_pooling_without_its_list_of_modules(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "modules.json").unlink()
    with pytest.raises(InputError, match=r"has 1_Pooling and no modules\.json"):
        read_sentence_files(tmp_path)


def test_longest_text_and_what_is_worth_a_word(tmp_path: Path) -> None:
    settings = {"prompts": {"query": "q: ", "none": ""}, "similarity_fn_name": "dot"}
    folder = write(
        tmp_path, settings=settings, transformer={"max_seq_length": 96, "do_lower_case": True}
    )
    (folder / "7_Dense").mkdir()
    found = read_sentence_files(folder)
    assert (found.max_tokens, found.lowers) == (96, True)
    prompts, compared = found.notes[:2]
    assert "has the prompts query; nothing puts them before a text" in prompts
    assert "compares by dot" in compared
    assert "7_Dense/: modules.json does not name it" in found.notes[2]
