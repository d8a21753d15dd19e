"""Every way a bundle can be refused, each with one line that names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepeft.bundle.graph import TENSOR_PATHS, external_locations
from edgepeft.errors import InputError
from edgepeft.runtime import Bundle
from tests.runtime.fabricate import (
    DATA,
    MODEL,
    edit_json,
    external,
    model_of,
    write_graph,
    write_manifest,
)


def refusal(folder: Path, **options: Any) -> str:
    """The one line ``Bundle.open`` refuses ``folder`` with."""
    with pytest.raises(InputError) as caught:
        Bundle.open(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_a_whole_bundle_opens(small: Path) -> None:
    bundle = Bundle.open(str(small))
    assert bundle.path == small
    assert bundle.model_file == small / MODEL
    assert (bundle.target, bundle.base, bundle.prompt_mode) == ("cpu-int4", "tiny", "chat")
    assert bundle.provider == "CPUExecutionProvider"
    assert bundle.context_length == 64


def test_a_relative_path_is_made_absolute(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.parent)
    assert Bundle.open(small.name).path == small


def test_the_shorter_context_counts(small: Path) -> None:
    edit_json(small / "edgepeft.json", "result.context_length", 4096)
    assert Bundle.open(small).context_length == 64


# Folders that are no bundle, manifests that cannot be read.


def test_no_such_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing")


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert "is a file" in refusal(tmp_path / "model.onnx")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert "not a bundle" in refusal(tmp_path)


def test_a_model_of_onnxruntime_genai(small: Path) -> None:
    (small / "edgepeft.json").unlink()
    assert "onnxruntime-genai, not an edgepeft bundle" in refusal(small)


def test_a_newer_format(small: Path) -> None:
    write_manifest(small, format=2, edgepeft="9.1.0")
    message = refusal(small)
    assert "newer edgepeft 9.1.0" in message
    assert "upgrade" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1', "\udcff", "[" * 100000])
def test_a_manifest_that_is_no_json_object(small: Path, text: str) -> None:
    (small / "edgepeft.json").write_text(text, errors="surrogateescape")
    assert "edgepeft.json" in refusal(small)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", ...),
        ("format", "1"),
        ("format", True),
        ("format", 0),
        ("kind", ...),
        ("kind", "merged"),
        ("outputs", []),
        ("result", ...),
        ("result.model_file", None),
        ("result.target", 4),
        ("result.prompt", "chat"),
        ("result.provider", ...),
        ("result.base", ...),
        ("result.context_length", 2.5),
        ("fidelity", []),
        ("fidelity", {}),
        ("fidelity.gates", []),
        ("fidelity.gates", "failed"),
        ("fidelity.gates", [1]),
    ],
)
def test_a_malformed_manifest_names_the_key(small: Path, key: str, value: Any) -> None:
    edit_json(small / "edgepeft.json", key, value)
    message = refusal(small)
    assert "edgepeft.json" in message
    assert key.split(".")[0] in message


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"bytes": "3", "sha256": "0" * 64},
        {"bytes": True, "sha256": "0" * 64},
        {"bytes": 3, "sha256": "0" * 63},
        {"bytes": 3, "sha256": "G" * 64},
    ],
)
def test_a_malformed_output_is_named(small: Path, entry: Any) -> None:
    manifest = json.loads((small / "edgepeft.json").read_text())
    manifest["outputs"]["tokenizer.json"] = entry
    (small / "edgepeft.json").write_text(json.dumps(manifest))
    assert "outputs.tokenizer.json" in refusal(small)


# Files that are not what the manifest says.


def test_a_missing_file_is_named(small: Path) -> None:
    (small / DATA).unlink()
    assert f"{small / DATA}: missing" in refusal(small, check="sizes")
    assert f"{small / DATA}: missing" in refusal(small, check="none")


def test_a_file_of_another_size_is_named(small: Path) -> None:
    (small / DATA).write_bytes(b"short")
    message = refusal(small, check="sizes")
    assert f"{small / DATA}: 5 bytes" in message
    assert "64" in message


def test_a_file_of_other_content_is_named(small: Path) -> None:
    (small / DATA).write_bytes(bytes(64))
    assert f"{small / DATA}: changed" in refusal(small)
    Bundle.open(small, check="sizes")


def test_without_a_check_files_are_not_compared(small: Path) -> None:
    (small / "README.md").write_text("about it")
    write_manifest(small)
    (small / "README.md").write_text("more about it")
    Bundle.open(small, check="none")
    assert "README.md: 13 bytes" in refusal(small, check="sizes")


def test_a_folder_in_a_file_s_place(small: Path) -> None:
    (small / DATA).unlink()
    (small / DATA).mkdir()
    assert "not a regular file" in refusal(small)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../other", "onnx/../../x", "C:\\x", "a\\b", "", "./a", "a//b", "a\0b"]
)
def test_a_path_out_of_the_bundle(small: Path, name: str) -> None:
    manifest = json.loads((small / "edgepeft.json").read_text())
    manifest["outputs"][name] = {"bytes": 0, "sha256": "0" * 64}
    (small / "edgepeft.json").write_text(json.dumps(manifest))
    assert "not a path inside the bundle" in refusal(small)


# Links.


@pytest.mark.parametrize("name", [MODEL, DATA, "genai_config.json"])
@pytest.mark.parametrize("check", ["hashes", "none"])
def test_a_symbolic_link(small: Path, tmp_path: Path, name: str, check: str) -> None:
    (small / name).rename(tmp_path / "elsewhere")
    (small / name).symlink_to(tmp_path / "elsewhere")
    assert f"{small / name}: a symbolic link" in refusal(small, check=check)


@pytest.mark.parametrize("check", ["hashes", "none"])
def test_a_linked_folder(small: Path, tmp_path: Path, check: str) -> None:
    (small / "onnx").rename(tmp_path / "onnx")
    (small / "onnx").symlink_to(tmp_path / "onnx")
    assert f"{small / 'onnx'}: a symbolic link" in refusal(small, check=check)


@pytest.mark.parametrize("name", [MODEL, DATA])
@pytest.mark.parametrize("check", ["hashes", "none"])
def test_a_hard_link(small: Path, tmp_path: Path, name: str, check: str) -> None:
    os.link(small / name, tmp_path / "elsewhere")
    assert f"{small / name}: hard-linked" in refusal(small, check=check)


def test_the_bundle_folder_itself_may_be_a_link(small: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(small)
    Bundle.open(tmp_path / "current")


# Graphs.


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "sub/data", "..", ".hidden", "a\\b", "*/_ORT_MEM_ADDR_/*", ""],
)
def test_external_data_outside_its_folder(small: Path, location: str) -> None:
    write_graph(small / MODEL, location=location)
    write_manifest(small)
    assert "not a file beside it" in refusal(small)


def test_external_data_the_manifest_does_not_list(small: Path) -> None:
    write_graph(small / MODEL, location="stray_data")
    write_manifest(small)
    assert "onnx/stray_data is not among its outputs" in refusal(small)
    (small / "onnx/stray.onnx_data").write_bytes(bytes(64))
    assert "onnx/stray.onnx_data is not listed in its manifest" in refusal(small)


@pytest.mark.parametrize("content", [b"", b"not a graph at all", b"\x00" * 64, b"\x08\x0a"])
def test_a_graph_that_is_no_onnx(small: Path, content: bytes) -> None:
    (small / MODEL).write_bytes(content)
    write_manifest(small)
    assert "not a well-formed ONNX model" in refusal(small)


def test_a_graph_cut_short_never_crashes(small: Path, tmp_path: Path) -> None:
    whole = (small / MODEL).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.onnx").write_bytes(whole[:size])
        try:
            found = external_locations(tmp_path / "cut.onnx")
        except InputError:
            continue
        assert found <= external_locations(small / MODEL)


def _in_a_constant(tensor: Any) -> Any:
    return model_of([], [helper.make_node("Constant", [], ["y"], value=tensor)])


def _in_a_branch(tensor: Any) -> Any:
    branch = helper.make_graph([], "branch", [], [], [tensor])
    inner = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    outer = helper.make_graph([inner], "outer", [], [])
    return model_of([], [helper.make_node("If", ["x"], ["y"], then_branch=outer)])


def _in_a_function(tensor: Any) -> Any:
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    opset = [helper.make_opsetid("", 21)]
    model = model_of([], [helper.make_node("F", ["x"], ["y"], domain="d")])
    model.functions.append(helper.make_function("d", "F", ["x"], ["y"], [node], opset))
    return model


def _in_a_sparse_tensor(tensor: Any) -> Any:
    model = model_of([], [helper.make_node("Identity", ["x"], ["y"])])
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    return model


@pytest.mark.parametrize(
    "hide", [_in_a_constant, _in_a_branch, _in_a_function, _in_a_sparse_tensor]
)
def test_external_data_is_found_wherever_it_hides(
    tmp_path: Path, hide: Callable[[Any], Any]
) -> None:
    tensor = external(numpy_helper.from_array(np.zeros(16, np.float32), "w"), "../hidden")
    (tmp_path / "model.onnx").write_bytes(hide(tensor).SerializeToString())
    assert external_locations(tmp_path / "model.onnx") == {"../hidden"}


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    inner = b""
    for _ in range(60):
        # graph > node > attribute > graph, each wrapped by hand: protobuf itself refuses to.
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            inner = tag + _varint(len(inner)) + inner
    (tmp_path / "deep.onnx").write_bytes(b"\x3a" + _varint(len(inner)) + inner)
    with pytest.raises(InputError, match="nested deeper"):
        external_locations(tmp_path / "deep.onnx")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_every_way_to_a_tensor_is_known() -> None:
    """Holds the walker's table against onnx's own description of the format."""
    messages: dict[str, Any] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        message = pending.pop()
        if message.name not in messages:
            messages[message.name] = message
            pending += [field.message_type for field in message.fields if field.message_type]
    reaching = {"TensorProto"}
    while True:
        more = {name for name in messages if _children(messages[name], reaching)} | reaching
        if more == reaching:
            break
        reaching = more
    expected = {name: _children(messages[name], reaching) for name in reaching}
    expected["TensorProto"] = {13: "StringStringEntryProto"}
    assert expected == TENSOR_PATHS


def _children(message: Any, reaching: set[str]) -> dict[int, str]:
    return {
        field.number: field.message_type.name
        for field in message.fields
        if field.message_type and field.message_type.name in reaching
    }


def test_a_graph_in_another_format(small: Path) -> None:
    (small / MODEL).rename(small / "onnx/model.ort")
    edit_json(small / "genai_config.json", "model.decoder.filename", "onnx/model.ort")
    write_manifest(small)
    edit_json(small / "edgepeft.json", "result.model_file", "onnx/model.ort")
    assert "must be an .onnx file" in refusal(small)


# genai_config.json.


def test_another_graph_than_the_manifest_s(small: Path) -> None:
    write_graph(small / "onnx/other.onnx")
    edit_json(small / "genai_config.json", "model.decoder.filename", "onnx/other.onnx")
    write_manifest(small)
    assert "model.decoder.filename is 'onnx/other.onnx'" in refusal(small)


@pytest.mark.parametrize("key", ["decoder.filename", "context_length", "vocab_size"])
def test_a_malformed_genai_config_names_the_key(small: Path, key: str) -> None:
    edit_json(small / "genai_config.json", f"model.{key}", ...)
    write_manifest(small)
    assert f"genai_config.json: model.{key} must be" in refusal(small)


@pytest.mark.parametrize("name", ["genai_config.json", MODEL, DATA])
def test_what_is_loaded_must_be_listed(small: Path, name: str) -> None:
    manifest = json.loads((small / "edgepeft.json").read_text())
    del manifest["outputs"][name]
    (small / "edgepeft.json").write_text(json.dumps(manifest))
    assert f"{name} is not listed in its manifest" in refusal(small)


# Gates.


def test_an_unverified_bundle_says_so(small: Path) -> None:
    bundle = Bundle.open(small)
    assert bundle.gates is None
    assert "not verified" in (bundle.warning or "")


def test_a_passed_bundle_has_no_warning(small: Path) -> None:
    write_manifest(small, fidelity={"gates": "passed"})
    bundle = Bundle.open(small)
    assert bundle.gates == ()
    assert bundle.warning is None


def test_a_failed_bundle_opens_and_says_what_failed(small: Path) -> None:
    write_manifest(small, fidelity={"gates": ["max_task_kl: 0.07 > 0.05", "two\nlines"]})
    bundle = Bundle.open(small)
    assert bundle.gates == ("max_task_kl: 0.07 > 0.05", "two lines")
    assert "max_task_kl: 0.07 > 0.05" in (bundle.warning or "")
    assert "\n" not in (bundle.warning or "")
