"""The second witness sees what the measures alone would let pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.config.target_sections import Gates
from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.gates import missed_gates
from edgepeft.evaluation.witness.check import agreement, difference
from edgepeft.evaluation.witness.models import Sources, load_adapted
from edgepeft.evaluation.witness.probes import (
    AT_LEAST,
    LONGEST,
    Limits,
    limits_of,
    long_length,
    long_statements,
    spread,
    task_statements,
)
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.evaluation.witness.words import witness_line
from tests.conftest import ModelMaker
from tests.evaluation.faulty import FAULTS
from tests.stages import Find, carried_once, write_adapter

BOUND = Gates.model_fields["max_float_difference"].default


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return carried_once("tests.evaluation.chain", tmp_path_factory)


def measures(carried: Find, case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((carried(case, "verify") / "measures.json").read_text())
    return found


def gates(carried: Find, case: str) -> list[str]:
    found = missed_gates(measures(carried, case), Gates(min_reference_gain=None))
    return [line for line in found if line.startswith("max_float_difference")]


@pytest.mark.parametrize("case", ["sound", "sound-full-precision"])
def test_a_sound_bundle_and_its_reference_agree_with_it(carried: Find, case: str) -> None:
    facts = measures(carried, case)["witness"]
    assert facts["compared"] == "the bundle"
    assert facts["difference"] < BOUND / 5
    assert facts["reference"]["difference"] < BOUND / 5
    assert facts["reference"]["positions"] > 4
    assert {"onnxruntime", "onnxruntime-genai"} == set(facts["engines"])
    assert gates(carried, case) == []
    line = witness_line("cpu-fp32", facts)
    assert line.startswith("second witness: cpu-fp32: the bundle within")
    assert "\n" not in line


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_graph_is_seen_in_bundle_and_float_form(carried: Find, fault: str) -> None:
    (line, *_) = gates(carried, f"llama-{fault}")
    assert line.startswith("max_float_difference: the bundle is ")
    stage = json.loads((carried(f"llama-{fault}", "float-graph") / "edgepeft.json").read_text())
    assert stage["result"]["graph"]["difference"] > BOUND


def test_a_window_that_no_row_reaches_passes_the_measures_and_not_the_witness(
    carried: Find,
) -> None:
    found = measures(carried, "llama-window")
    assert found["task_kl"] < 1e-5
    assert found["witness"]["difference"] > 0.01


def test_a_runtime_that_reads_a_long_text_wrongly_is_named(carried: Find) -> None:
    lines = gates(carried, "unseen-switch")
    assert [line for line in lines if "onnxruntime with it is" in line]
    assert measures(carried, "unseen-switch")["task_kl"] < 1e-5


def test_a_state_that_is_lost_between_pieces_is_named(carried: Find) -> None:
    lines = gates(carried, "lost-state")
    for engine in ("onnxruntime", "onnxruntime-genai"):
        assert [line for line in lines if f"{engine} with it is" in line]


def test_a_reference_with_the_wrong_head_is_named(carried: Find) -> None:
    (line,) = gates(carried, "wrong-head")
    assert line.startswith("max_float_difference: the reference is ")


def test_the_bound_may_be_moved_or_dropped(carried: Find) -> None:
    found = measures(carried, "llama-scale")
    for bound in (None, 10.0):
        lines = missed_gates(found, Gates(max_float_difference=bound, min_reference_gain=None))
        assert not [line for line in lines if line.startswith("max_float_difference")]


def test_what_is_no_number_is_no_agreement() -> None:
    wanted = torch.zeros(2, 4)
    for broken in (torch.full((2, 4), torch.nan), torch.full((2, 4), torch.inf), torch.zeros(2, 3)):
        assert difference(wanted, broken) == float("inf")
    found = agreement(iter([(wanted, torch.full((2, 4), torch.nan))])).told().as_dict()
    assert found["difference"] is None
    facts: dict[str, Any] = {"compared": "x", "difference": None, "engines": {}, "reference": None}
    (line,) = missed_gates({"witness": facts}, Gates())
    assert "is no number away" in line


def test_a_difference_is_a_share_of_large_logits_alone() -> None:
    wanted = torch.full((1, 4), 8.0)
    assert difference(wanted, wanted + 0.8) == pytest.approx(0.1, rel=1e-5)
    assert difference(wanted / 80, wanted / 80 + 0.1) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(
    ("config", "limits", "length"),
    [
        ({}, Limits(), AT_LEAST),
        ({"sliding_window": 1000}, Limits((1000,)), 2000),
        ({"conv_L_cache": 3}, Limits((3,)), AT_LEAST),
        ({"sliding_window": 100_000}, Limits((100_000,)), LONGEST),
        (
            {"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 900}},
            Limits((), 900),
            1800,
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "original_max_position_embeddings": 900}},
            Limits(),
            AT_LEAST,
        ),
    ],
)
def test_the_long_text_goes_past_every_limit(
    config: dict[str, Any], limits: Limits, length: int
) -> None:
    assert limits_of(config) == limits
    assert long_length(100_000, limits) == length
    assert long_length(50, limits) == 50


def test_positions_lie_on_both_sides_of_a_limit_and_early_text_is_asked_alone() -> None:
    early, late = long_statements([5, 6, 7], 2000, Limits((700,), 900))
    assert (len(early.ids), len(late.ids)) == (900, 2000)
    assert {699, 700, 898, 899} <= set(early.positions)
    assert {699, 700, 899, 900, 1999} <= set(late.positions)
    assert len(late.positions) < 40
    logits = tuple(
        torch.arange(len(one.positions))[:, None].float() + 100 * index
        for index, one in enumerate((early, late))
    )
    testimony = WitnessRecord((early, late), logits, Limits((700,), 900), 0.0)
    assert float(testimony.after(900)) == len(early.positions) - 1
    assert float(testimony.after(901)) == 100 + late.positions.index(900)
    with pytest.raises(KeyError):
        testimony.after(3)


def test_statements_of_the_task_are_few_and_short() -> None:
    rows = [(list(range(600)), 3), *[(list(range(40 + i)), 10) for i in range(9)]]
    statements = task_statements(rows)
    assert [len(one.ids) for one in statements] == [40, 41, 42, 43]
    # Those that predict the completion, the last token predicting nothing that is known.
    assert statements[0].positions[0] == 9
    assert statements[0].positions[-1] == 38
    assert max(len(one.positions) for one in statements) <= 16
    assert spread(3, 5, 16) == [3, 4, 5]


def sources(model: Path, adapter: Path, kind: str, **more: Any) -> Sources:
    grid = TrainingGrid(kind=kind).as_dict()  # type: ignore[arg-type]
    return Sources(model, adapter, False, "dequantized", grid, more.pop("quantized", None), **more)


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_transformers_own_loading_and_bitsandbytes_functions_make_one_base(
    tiny_model: ModelMaker, tmp_path: Path, kind: str
) -> None:
    """The way for files that transformers can't quantize while it loads them is the way for those it can."""
    model = tiny_model("llama", tied=False)
    adapter = write_adapter(model, tmp_path / "adapter")
    names = [
        f"model.layers.{layer}.{part}.weight"
        for layer in range(2)
        for part in (
            *(f"self_attn.{name}_proj" for name in "qkvo"),
            *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
        )
    ]
    ids = torch.arange(5, 45)[None]
    found = []
    for rows in (None, 512):
        loaded = load_adapted(sources(model, adapter, kind, quantized=names, rows=rows))
        with torch.no_grad():
            found.append(loaded(ids).logits)
    assert torch.equal(found[0], found[1])


def test_an_adapter_that_does_not_fit_is_one_line(tiny_model: ModelMaker, tmp_path: Path) -> None:
    adapter = write_adapter(tiny_model("qwen3"), tmp_path / "adapter")
    with pytest.raises(EdgepeftError, match="the second witness can't load") as caught:
        load_adapted(sources(tiny_model("llama"), adapter, "none"))
    assert "\n" not in str(caught.value)
