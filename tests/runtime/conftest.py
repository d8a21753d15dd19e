"""The bundles the runtime's tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepeft.runtime import BatchRuntime, Bundle, Runtime
from edgepeft.runtime.answering import Answerer
from tests.runtime.fabricate import (
    edit_json,
    write_manifest,
    write_small_bundle,
    write_tiny_bundle,
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bundle of its own for each test, to be spoiled."""
    return write_small_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that runs; not to be changed."""
    pytest.importorskip("onnxruntime_genai")
    root = tmp_path_factory.mktemp("tiny")
    return write_tiny_bundle(root / "bundle", root)


@pytest.fixture(scope="session")
def without_genai(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle for plain onnxruntime alone; not to be changed."""
    return plain_copy(tiny_bundle, tmp_path_factory.mktemp("plain") / "bundle")


def every_engine(bundle: Path, plain: Path) -> Iterator[dict[str, Answerer]]:
    """Every way to answer with a bundle, and with its copy for plain onnxruntime, until the generator goes on."""
    batch = BatchRuntime(bundle, rows=2, threads=1)
    yield {
        "genai": Runtime(bundle, threads=1),
        "plain": Runtime(plain, threads=1),
        "speculation": Runtime(bundle, threads=1, speculate=True),
        "plain speculation": Runtime(plain, threads=1, speculate=True),
        "batch": batch,
    }
    batch.close()


def plain_copy(bundle: Path, folder: Path) -> Path:
    """A bundle copied to ``folder`` and laid out for plain onnxruntime alone; returns ``folder``."""
    shutil.copytree(bundle, folder)
    whole = Bundle.open(bundle)
    (folder / "genai_config.json").unlink()
    write_manifest(folder, context_length=whole.context_length)
    edit_json(folder / "edgepeft.json", "result.runtimes", ["onnxruntime"])
    edit_json(folder / "edgepeft.json", "result.vocab_size", whole.vocab_size)
    return folder
