"""The command line that the sample makers share: where to write, the seed, and how many rows of each split."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"


def parse_options(
    description: str, *, train: int, test: int, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """``out_dir`` (it exists afterwards), ``seed``, ``train`` and ``test``; the numbers given are defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out-dir", type=Path, default=DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=_count, default=train, help="number of train rows")
    parser.add_argument("--test", type=_count, default=test, help="number of test rows")
    options = parser.parse_args(argv)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    return options


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be negative: {number}")
    return number
