"""Two general texts that come with edgepeft, so that it can measure a model without a download.

Both were written for this project, in several languages and styles, and are distributed with it
under its licence (Apache-2.0) or, at your choice, as CC0. They share no sentence:
`generic-eval.txt` is what perplexity and divergence are measured on, and is never used for
calibration; `generic-calibration.txt` is what quantization may look at. A compressed model is thus
never scored on words it was fitted to.
"""

from __future__ import annotations

from importlib import resources


def evaluation_text() -> str:
    """Return the text to measure on; calibrating on it would make every score too good."""
    return _read("generic-eval.txt")


def calibration_text() -> str:
    """Return the text that quantization may be calibrated on, unrelated to the evaluation text."""
    return _read("generic-calibration.txt")


def _read(name: str) -> str:
    """Read a text through the package, which also works from inside a zip file."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
