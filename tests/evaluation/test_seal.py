"""The seal on a bundle: report, card and verdict, put there once and changed only when they change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.config.target_sections import Gates
from edgepeft.errors import EdgepeftError
from edgepeft.evaluation import seal as sealing
from edgepeft.evaluation.card import card
from edgepeft.evaluation.card_metadata import Origins
from edgepeft.evaluation.seal import folder_bytes, seal
from edgepeft.evaluation.table import table_rows
from edgepeft.runs.digests import hash_file
from edgepeft.runs.folder import MANIFEST, is_finished, publish, staging_folder
from edgepeft.runtime import Bundle
from edgepeft.utils.quantities import number
from edgepeft.utils.whole_files import write_json
from tests.runtime.fabricate import write_small_bundle

KEY = "bundle-key"
FACTS: dict[str, Any] = {
    "exact_match": 0.97,
    "exact_match_interval": [0.9, 0.99],
    "reference_exact_match": 0.99,
    "base_exact_match": 0.0,
    "rows": 48,
    "task_kl": 0.0123,
    "generic_kl": 0.4,
    "top1_agreement": 0.98,
    "generic_top1_agreement": 0.7,
    "recovery": 0.995,
    "task_loss": 0.02,
    "reference_task_loss": 0.01,
    "base_task_loss": 2.4,
    "generic_perplexity": 31.5,
    "reference_generic_perplexity": 30.25,
    "task_tokens": 700,
    "generic_tokens": 2040,
    "tokens_per_second": 123.4,
    "provider": "CPUExecutionProvider",
    "executed_on": "CPUExecutionProvider",
    "wrong": [],
}
QUANTIZED = {
    "algorithm": "rtn",
    "linear": "int4 asymmetric, blocks of 32",
    "head": "int8 asymmetric, blocks of 32",
    "embedding": "int8 asymmetric, blocks of 32",
    "tied": True,
    "divergence": None,
    "layer_errors": [0.02, 0.05],
}


def finish(folder: Path, result: dict[str, Any]) -> Path:
    staged = staging_folder(folder)
    publish(staged, folder, {"kind": "stage", "key": folder.name, "result": result})
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle as the export stage leaves it, not yet verified."""
    folder = write_small_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest |= {"key": KEY, "settings": {"target": {"precision": "int4"}}}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert is_finished(folder, KEY)
    return folder


@pytest.fixture
def measures(tmp_path: Path) -> Path:
    return finish(tmp_path / "measures", FACTS)


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    return finish(tmp_path / "quantized", QUANTIZED)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_entry_is_what_build_prints(bundle: Path, measures: Path, quantized: Path) -> None:
    entry = seal(bundle, measures=measures, quantized=quantized, gates=Gates.model_validate({}))
    assert json.loads(json.dumps(entry)) == entry
    assert entry["target"] == "cpu-int4"
    assert entry["path"] == str(bundle)
    assert entry["model_file"] == str(bundle / "onnx" / "model_q4.onnx")
    assert entry["bytes"] == sum(map(len, contents(bundle).values()))
    assert entry["gates"] == "passed"
    assert {key: entry["fidelity"][key] for key in FACTS} == FACTS


def test_report_card_and_manifest_agree_and_the_runtime_takes_it(
    bundle: Path, measures: Path, quantized: Path
) -> None:
    seal(bundle, measures=measures, quantized=quantized, gates=Gates.model_validate({}))
    manifest, fidelity = read(bundle / MANIFEST), read(bundle / "fidelity.json")
    for name in ("fidelity.json", "README.md"):
        content = (bundle / name).read_bytes()
        assert manifest["outputs"][name] == {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
    assert manifest["fidelity"]["gates"] == fidelity["gates"] == "passed"
    assert manifest["fidelity"]["task_kl"] == FACTS["task_kl"]
    assert fidelity["weights"] == {**QUANTIZED, "accuracy_level": None}
    assert fidelity["bounds"]["max_task_kl"] == 0.05
    opened = Bundle.open(bundle)
    assert opened.gates == ()
    assert opened.warning is None
    assert is_finished(bundle, KEY)


def test_sealing_again_changes_no_byte(bundle: Path, measures: Path, quantized: Path) -> None:
    gates = Gates.model_validate({})
    first = seal(bundle, measures=measures, quantized=quantized, gates=gates)
    before = contents(bundle)
    times = {name: (bundle / name).stat().st_mtime_ns for name in before}
    assert seal(bundle, measures=measures, quantized=quantized, gates=gates) == first
    assert contents(bundle) == before
    assert {name: (bundle / name).stat().st_mtime_ns for name in before} == times


def test_a_card_without_metadata_is_written_anew(
    bundle: Path, measures: Path, quantized: Path
) -> None:
    """As earlier versions left it: whole, and silent towards the hub."""
    gates = Gates.model_validate({})
    seal(bundle, measures=measures, quantized=quantized, gates=gates)
    card, manifest = bundle / "README.md", json.loads((bundle / MANIFEST).read_text())
    whole = card.read_text()
    card.write_text(whole[whole.index("\n# ") + 1 :])
    manifest["outputs"]["README.md"] = {"sha256": hash_file(card), "bytes": card.stat().st_size}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    seal(bundle, measures=measures, quantized=quantized, gates=gates)
    assert card.read_text() == whole
    Bundle.open(bundle)


def test_a_card_says_what_stood_before_every_row(bundle: Path, measures: Path) -> None:
    seal(bundle, measures=measures, quantized=None, gates=Gates())
    assert "system message" not in (bundle / "README.md").read_text()
    said = Origins(system="Answer `briefly`.\nNo jokes.")
    seal(bundle, measures=measures, quantized=None, gates=Gates(), origins=said)
    assert (
        "system message `Answer 'briefly'.\\nNo jokes.`, which is no part of"
        in (bundle / "README.md").read_text()
    )
    assert read(bundle / "fidelity.json")["system"] == said.system


def test_other_gates_are_another_verdict_on_the_same_bundle(
    bundle: Path, measures: Path, quantized: Path
) -> None:
    seal(bundle, measures=measures, quantized=quantized, gates=Gates.model_validate({}))
    before = contents(bundle)
    strict = Gates.model_validate({"max_task_kl": 0.001})
    entry = seal(bundle, measures=measures, quantized=quantized, gates=strict)
    assert entry["gates"] == ["max_task_kl: 0.0123 > 0.001"]
    after = contents(bundle)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"fidelity.json", "README.md", MANIFEST}
    opened = Bundle.open(bundle)
    assert opened.gates == ("max_task_kl: 0.0123 > 0.001",)
    assert "failed its fidelity gates" in str(opened.warning)
    assert is_finished(bundle, KEY)
    seal(bundle, measures=measures, quantized=quantized, gates=Gates.model_validate({}))
    assert contents(bundle) == before


@pytest.mark.parametrize("again", ["first", "changed"])
@pytest.mark.parametrize("lost", ["README.md", MANIFEST])
def test_a_crash_between_the_files_is_mended_by_the_next_build(
    bundle: Path,
    measures: Path,
    quantized: Path,
    monkeypatch: pytest.MonkeyPatch,
    again: str,
    lost: str,
) -> None:
    gates = Gates.model_validate({})
    options: dict[str, Any] = {"measures": measures, "quantized": quantized}
    if again == "changed":
        seal(bundle, **options, gates=Gates.model_validate({"max_task_kl": 0.001}))
    with monkeypatch.context() as patch:

        def crash(*args: Any) -> Any:
            raise KeyboardInterrupt

        patch.setattr(
            sealing,
            "write_json",
            lambda path, value: crash() if path.name == lost else write_json(path, value),
        )
        if lost == "README.md":
            patch.setattr(sealing, "card", crash)
        with pytest.raises(KeyboardInterrupt):
            seal(bundle, **options, gates=gates)
    entry = seal(bundle, **options, gates=gates)
    assert entry["gates"] == "passed"
    assert Bundle.open(bundle).gates == ()
    assert is_finished(bundle, KEY)


def test_without_measures_a_bundle_stays_unverified(bundle: Path) -> None:
    before = contents(bundle)
    entry = seal(bundle, measures=None, quantized=None, gates=Gates.model_validate({}))
    assert (entry["gates"], entry["fidelity"]) == (None, None)
    assert contents(bundle) == before
    assert Bundle.open(bundle).gates is None


def test_a_float_bundle_says_its_precision(bundle: Path, measures: Path) -> None:
    seal(bundle, measures=measures, quantized=None, gates=Gates.model_validate({}))
    weights = read(bundle / "fidelity.json")["weights"]
    assert [weights[part] for part in ("linear", "head", "embedding")] == ["int4"] * 3
    assert weights["algorithm"] is None


def test_a_bundle_without_manifest_is_not_sealed(tmp_path: Path, measures: Path) -> None:
    with pytest.raises(EdgepeftError, match=f"has no readable {MANIFEST}"):
        seal(tmp_path, measures=measures, quantized=None, gates=Gates.model_validate({}))


def make_report(**facts: Any) -> dict[str, Any]:
    return {
        "target": "cpu-int4",
        "base": "tiny",
        "gates": "passed",
        "fidelity": {**FACTS, **facts},
        "weights": QUANTIZED,
        "runtimes": ["onnxruntime-genai", "onnxruntime"],
    }


def test_card_says_what_was_measured_and_on_what() -> None:
    text = card(make_report(), 123_456_789)
    for part in (
        "# tiny for cpu-int4",
        "All fidelity gates passed.",
        "48 held-out rows",
        "95 % interval 0.900 to 0.990",
        "700 task tokens",
        "perplexity 31.50 (reference 30.25)",
        "int4 asymmetric, blocks of 32; head: int8",
        "head and embedding stored once",
        "executed on CPUExecutionProvider",
        "load the folder with onnxruntime-genai, onnxruntime.",
        "| cpu-int4 | 0.970 | 0.0123 | 0.4000 | 0.980 | 0.995 | 123 | 123 | passed |",
        "| base, no adapter | 0.000 |",
        "| reference, unmerged | 0.990 | 0 | 0 | 1 | 1 |",
    ):
        assert part in text


def test_card_claims_no_device_that_saw_nothing() -> None:
    text = card(make_report(provider="CUDAExecutionProvider"), 1)
    assert "graph verified on CPUExecutionProvider, CUDAExecutionProvider not executed" in text


def test_card_names_the_gates_that_were_missed() -> None:
    text = card({**make_report(), "gates": ["one: 2 > 1", "two: 3 > 2"]}, 1)
    assert "**Fidelity gates missed:** one: 2 > 1; two: 3 > 2" in text
    assert "MISSED" in text
    assert "passed" not in text.partition("| model |")[0]


def test_table_of_plain_text_has_dashes_for_exact_match() -> None:
    facts = {**FACTS, "exact_match": None, "base_exact_match": None, "recovery": None}
    facts |= {"reference_exact_match": None, "tokens_per_second": None}
    entry = {"target": "cpu-int8", "bytes": 5e6, "gates": "passed", "fidelity": facts}
    header, rows = table_rows([entry])
    assert [len(row) for row in rows] == [len(header)] * 3
    assert [row[1] for row in rows] == ["–", "–", "–"]
    assert rows[2][5] == rows[2][7] == "–"
    unverified = {"target": "x", "bytes": 1, "gates": None, "fidelity": None}
    assert table_rows([unverified])[1] == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.0000"), (0.12345, "0.1235"), (1e-5, "1.0e-05"), (-2e-6, "-2.0e-06")],
)
def test_numbers_are_short_and_never_rounded_to_nothing(value: float | None, text: str) -> None:
    assert number(value) == text


def test_folder_bytes_counts_everything_below(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b").write_bytes(b"45")
    assert folder_bytes(tmp_path) == 5
