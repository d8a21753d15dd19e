"""What is told of outputs that differ, on small made-up ones."""

from __future__ import annotations

import numpy as np

from tests.golden.compare import Output, complaints, differences
from tests.golden.summary import Summary, of_tensor

WEIGHT = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(8, 8)


def _chain(merged: Summary, codes: Summary, version: int = 3) -> dict[str, Output]:
    """A merge and what is rounded from it."""
    return {
        "merge": Output("merge", version, merged),
        "quantize-int4": Output("quantize", 8, codes, ("merge",)),
    }


def test_noise_is_no_difference_and_a_thousandth_is_one() -> None:
    was = {"w": of_tensor(WEIGHT)}
    noise = np.float32(1e-6) * np.sign(WEIGHT)
    assert not list(differences("decoder merge", was, {"w": of_tensor(WEIGHT + noise)}))
    told = list(differences("decoder merge", was, {"w": of_tensor(WEIGHT * np.float32(1.001))}))
    assert "rms" in told[0]


def test_a_few_codes_may_fall_to_the_other_side() -> None:
    codes = np.arange(256, dtype=np.uint8)
    moved = codes.copy()
    moved[0] += 1
    was = {"codes": of_tensor(codes)}
    assert not list(differences("decoder quantize", was, {"codes": of_tensor(moved)}))
    shifted = {"codes": of_tensor(np.clip(codes.astype(int) + 1, 0, 255).astype(np.uint8))}
    assert list(differences("decoder quantize", was, shifted))


def test_names_shapes_and_words_are_exact() -> None:
    was = {"gone": 1, "shape": of_tensor(WEIGHT), "word": "gptq", "number": 4}
    now = {"new": 1, "shape": of_tensor(WEIGHT.T[:4]), "word": "rtn", "number": 4}
    assert list(differences("decoder export", was, now)) == [
        "gone: is gone",
        "new: is new",
        "shape: is float32[4,8], was float32[8,8]",
        "word: is 'rtn', was 'gptq'",
    ]


def test_only_the_first_stage_that_changed_must_answer() -> None:
    recorded = _chain({"a": 1}, {"b": 1})
    (told,) = complaints("decoder", recorded, _chain({"a": 2}, {"b": 2}))
    assert told.startswith("merge: its output changed")
    assert "raise the version of merge" in told
    (told,) = complaints("decoder", recorded, _chain({"a": 1}, {"b": 2}))
    assert told.startswith("quantize-int4: its output changed")


def test_a_raised_version_wants_a_new_record() -> None:
    recorded = _chain({"a": 1}, {"b": 1})
    (told,) = complaints("decoder", recorded, _chain({"a": 2}, {"b": 2}, version=4))
    assert told == "merge: was recorded at version 3 of merge, which is at 4 now"


def test_stages_that_come_and_go_are_told() -> None:
    recorded = {"merge": Output("merge", 3, {})}
    told = complaints("decoder", recorded, {"base": Output("base", 3, {})})
    assert told == ["base: has no recorded output", "merge: is recorded, and not built any more"]
