"""What an adapter says of the base it was trained on, and whose word is taken first."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepeft.adapters.provenance import FILE, Provenance, TrainingGrid, read_provenance
from edgepeft.errors import InputError

CARD = """---
library_name: peft
---
# Adapter

The following `bitsandbytes` quantization config was used during training:
- quant_method: bitsandbytes
- load_in_8bit: False
- load_in_4bit: {load}
- bnb_4bit_quant_type: {kind}
- bnb_4bit_use_double_quant: {double}
- bnb_4bit_compute_dtype: bfloat16
"""


def card(folder: Path, load: object, kind: str, double: object) -> None:
    (folder / "README.md").write_text(CARD.format(load=load, kind=kind, double=double))


@pytest.mark.parametrize("names", [None, ("a.weight", "b.weight"), ()])
@pytest.mark.parametrize("grid", [TrainingGrid("nf4"), TrainingGrid("fp4", 128, False)])
def test_own_record_is_read_back(
    tmp_path: Path, grid: TrainingGrid, names: tuple[str, ...] | None
) -> None:
    Provenance(grid, names, "edgepeft").write(tmp_path)
    assert read_provenance(tmp_path) == Provenance(grid, names, FILE)


def test_json_form_is_read_back() -> None:
    provenance = Provenance(TrainingGrid("fp4", 128, False), ("a.weight",), "README.md")
    assert Provenance.from_dict(provenance.as_dict()) == provenance


@pytest.mark.parametrize(
    ("load", "kind", "double", "grid"),
    [
        (True, "nf4", True, TrainingGrid("nf4", double_quant=True)),
        (True, "nf4", False, TrainingGrid("nf4", double_quant=False)),
        (True, "fp4", False, TrainingGrid("fp4", double_quant=False)),
    ],
)
def test_pefts_card_names_the_grid(
    tmp_path: Path, load: object, kind: str, double: object, grid: TrainingGrid
) -> None:
    card(tmp_path, load, kind, double)
    assert read_provenance(tmp_path) == Provenance(grid, None, "README.md")


def test_a_card_that_leaves_the_type_out_means_the_library_default(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("- load_in_4bit: True\n")
    assert read_provenance(tmp_path).grid == TrainingGrid("fp4", double_quant=False)


@pytest.mark.parametrize("text", ["", "Trained with load_in_4bit: True, they say.\n", None])
def test_nothing_said_is_assumed_to_be_qlora(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    found = read_provenance(tmp_path)
    assert found == Provenance(TrainingGrid("nf4"), None, "assumed")
    assert found.trained_on == "assumed nf4"


def test_what_is_known_is_told_as_known(tmp_path: Path) -> None:
    card(tmp_path, True, "nf4", True)
    assert read_provenance(tmp_path).trained_on == "nf4"
    assert read_provenance(tmp_path, "none").trained_on == "none"


def test_card_of_an_adapter_trained_in_full_precision_decides_nothing(tmp_path: Path) -> None:
    card(tmp_path, False, "nf4", True)
    assert read_provenance(tmp_path).source == "assumed"


@pytest.mark.parametrize("declared", ["nf4", "fp4", "none"])
def test_the_recipe_is_taken_at_its_word(tmp_path: Path, declared: str) -> None:
    card(tmp_path, True, "fp4" if declared == "nf4" else "nf4", False)
    found = read_provenance(tmp_path, declared)
    assert found == Provenance(TrainingGrid(kind=declared), None, "merge.grid")  # type: ignore[arg-type]


def test_own_record_before_the_card(tmp_path: Path) -> None:
    card(tmp_path, True, "nf4", True)
    Provenance(TrainingGrid("none"), (), "edgepeft").write(tmp_path)
    assert read_provenance(tmp_path).grid.kind == "none"


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        "{}",
        '{"grid": {"kind": "nf4"}}',
        '{"grid": {"colour": "nf4"}, "quantized": null}',
        '{"grid": {"kind": "int3"}, "quantized": null}',
        '{"grid": {"kind": "nf4", "block_size": 0}, "quantized": null}',
        '{"grid": {"kind": "nf4"}, "quantized": 7}',
        '{"grid": {"kind": "nf4", "block_size": 1000000000}, "quantized": null}',
        '{"grid": {"kind": "nf4", "block_size": "64"}, "quantized": null}',
        "[" * 100_000,
    ],
)
def test_damaged_record_is_refused_by_name(tmp_path: Path, record: str) -> None:
    (tmp_path / FILE).write_text(record)
    with pytest.raises(InputError, match=rf"{FILE}: damaged .*set merge.grid in the recipe"):
        read_provenance(tmp_path)
