"""Every architecture with every option is exported exactly, and no option is without a case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepeft.checkpoints.declared_config import declared_keys
from edgepeft.checkpoints.rotary import rotates_whole_heads
from edgepeft.config.target_sections import Gates
from edgepeft.models.inspect import is_tied
from edgepeft_exporters.decoder import EXPORTER
from edgepeft_exporters.decoder.config_keys import (
    HONOURED,
    HONOURED_BY,
    ONLY_AT,
    SAYS_NOTHING,
    refused_key,
)
from edgepeft_exporters.decoder.sources import SOURCES
from tests.architectures import record
from tests.architectures.cases import CASES, CHOSEN, FAMILIES

PARTS = 2
BOUND = Gates.model_fields["max_float_difference"].default
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with every case, carried in two processes side by side."""
    root = tmp_path_factory.mktemp("architectures")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([".", "exporters"]),
        "OMP_NUM_THREADS": "1",
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.architectures.chain", str(root), f"{part}/{PARTS}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for part in range(PARTS)
    ]
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()[-2000:]
    return root


def result(results: Path, case: str) -> dict[str, Any]:
    folder = results / case
    if (folder / "error.txt").is_file():
        pytest.fail((folder / "error.txt").read_text())
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


@pytest.mark.parametrize("case", CHOSEN)
def test_float_bundle_is_the_model(results: Path, case: str) -> None:
    found = result(results, case)
    assert found["spread"] > 0.3
    assert found["graph"]["difference"] <= BOUND
    assert set(found["engines"]) == set(found["runtimes"]) & {"onnxruntime-genai", "onnxruntime"}
    for engine in found["engines"].values():
        assert engine["difference"] <= BOUND
    if found["torch"] is not None:
        assert max(found["torch"]) <= BOUND * max(1, found["spread"])


@pytest.mark.parametrize("case", CHOSEN)
def test_integer_bundle_is_the_model_but_for_rounding(results: Path, case: str) -> None:
    found = result(results, case)
    assert found["rounded"] <= BOUND
    # Rounding shows, so being equal to what the codes stand for means something.
    assert found["int4"] > 1e-7


def test_the_table_of_models_is_of_this_matrix(results: Path) -> None:
    by_family = {
        family: {name: case for name, case in CASES.items() if case.family == family}
        for family in FAMILIES
    }
    if record.recording():
        of_family = (
            record.decoder(family, cases, lambda name: result(results, name))
            for family, cases in by_family.items()
        )
        record.keep("decoder", of_family)
    table = EXPORTER.proven()
    assert {one.family: one.configurations for one in table} == {
        family: len(cases) for family, cases in by_family.items()
    }
    assert max(one.difference for one in table) <= BOUND
    assert all({"onnxruntime"} < set(one.runtimes) for one in table)


def kind_of(architecture: str) -> Any:
    import transformers

    family = architecture.removesuffix("ForCausalLM")
    return getattr(transformers, f"{'Gemma3Text' if family == 'Gemma3' else family}Config")


def test_every_supported_architecture_is_in_the_matrix() -> None:
    assert sorted(f"{family}ForCausalLM" for family in FAMILIES) == sorted(SOURCES)


@pytest.mark.parametrize("architecture", SOURCES)
def test_what_a_silent_configuration_means_is_known(architecture: str) -> None:
    kind = kind_of(architecture)
    silent = {"architectures": [architecture], "model_type": kind.model_type}
    assert is_tied(silent, architecture) == kind().tie_word_embeddings
    if architecture == "GraniteMoeHybridForCausalLM":
        assert refused_key(architecture, {}) == (
            f"num_local_experts: {kind().num_local_experts} is not supported for {architecture}"
        )


@pytest.mark.parametrize("architecture", SOURCES)
def test_which_rotations_a_prefix_fits_is_known(architecture: str) -> None:
    source = SOURCES[architecture]
    own = str(source.graph).endswith((".cohere", ".helium", ".glm"))
    # Of the builder's own classes, that of ERNIE is one of those.
    neighbours = own or source.model == "ErnieModel"
    silent = {"model_type": kind_of(architecture).model_type}
    assert rotates_whole_heads(silent) == (source.rotated == 1.0 and not neighbours)


@pytest.mark.parametrize("architecture", SOURCES)
def test_every_key_of_a_configuration_is_known(architecture: str) -> None:
    """A key that a newer transformers adds fails here until someone has seen what the graph makes of it."""
    honoured = HONOURED | {key for key, by in HONOURED_BY.items() if architecture in by}
    known = honoured | SAYS_NOTHING | set(ONLY_AT[""]) | set(ONLY_AT.get(architecture, {}))
    assert declared_keys(kind_of(architecture)) <= known


@pytest.mark.parametrize("family", FAMILIES)
def test_every_honoured_key_is_set_by_a_case(family: str) -> None:
    declared = declared_keys(kind_of(f"{family}ForCausalLM"))
    ours = [case for case in CASES.values() if case.family == family]
    # What every case sets, and what the same code serves for all families, so that one of them tries each.
    always = {
        "dtype",
        "architectures",
        "vocab_size",
        "num_hidden_layers",
        "max_position_embeddings",
    }
    everywhere = {"hidden_act", "hidden_activation", "rms_norm_eps", "rope_parameters"}
    varied = {key for case in ours for key in case.config}
    assert declared & HONOURED - varied - always - everywhere == set()
    assert everywhere <= {key for case in CASES.values() for key in case.config}
