"""Write the samples for encoders out of the support desk's messages (``make_support_desk.py``).

- ``message-team``: a message and the team that looks after it, for classification of texts.
- ``message-words``: a message's words, those that name a product, a month or an order tagged, for classification
  of words.
- ``message-pairs``: two messages about the same fault of the same product in other words, for embeddings.

The same seed always writes the same bytes.

    python samples/make_messages.py --out-dir samples/data --seed 0 --train 480 --test 120
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from make_support_desk import MONTHS, PRODUCTS, make_row, make_rows
from split_options import parse_options

# The longest name first: "smart lock" before "lock".
NAMES = sorted((n.split() for names in PRODUCTS.values() for n in names), key=len, reverse=True)
_WORD = re.compile(r"\w+|[^\w\s]")

Rows = list[dict[str, Any]]


def teams(rows: Sequence[tuple[str, str]]) -> Rows:
    """Messages with the team, which is the ticket's first field."""
    return [{"text": message, "label": ticket.split("; ")[0]} for message, ticket in rows]


def tagged(rows: Sequence[tuple[str, str]]) -> Rows:
    """Messages as words with tags."""
    made = []
    for message, _ in rows:
        words = _WORD.findall(message)
        made.append({"tokens": words, "tags": tags(words)})
    return made


def tags(words: Sequence[str]) -> list[str]:
    """A tag for each word: of a product, a month, an order's number, or none."""
    found = ["O"] * len(words)
    at = 0
    while at < len(words):
        name = next((n for n in NAMES if list(words[at : at + len(n)]) == n), None)
        if name is not None:
            found[at : at + len(name)] = ["B-product", *["I-product"] * (len(name) - 1)]
            at += len(name)
            continue
        if words[at] in MONTHS:
            found[at] = "B-month"
        elif words[at].isdigit() and len(words[at]) == 5:
            found[at] = "B-order"
        at += 1
    return found


def pairs(seed: int, train: int, test: int) -> tuple[Rows, Rows]:
    """Distinct messages, each with another one about the same fault of the same product."""
    rng = random.Random(seed)
    waiting: dict[str, str] = {}
    seen: set[str] = set()
    made: Rows = []
    while len(made) < train + test:
        message, ticket = make_row(rng)
        if message in seen:
            continue
        seen.add(message)
        other = waiting.pop(ticket, None)
        if other is None:
            waiting[ticket] = message
        else:
            made.append({"anchor": other, "positive": message})
    return made[:train], made[train:]


def write_rows(folder: Path, name: str, train: Rows, test: Rows) -> None:
    """Write a sample's two files as JSON Lines."""
    for split, rows in (("train", train), ("test", test)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.{split}.jsonl").write_bytes(lines.encode())


def main() -> None:
    """Write all three samples."""
    options = parse_options(str(__doc__), train=480, test=120)
    train, test = make_rows(options.seed, options.train, options.test)
    write_rows(options.out_dir, "message-team", teams(train), teams(test))
    write_rows(options.out_dir, "message-words", tagged(train), tagged(test))
    write_rows(options.out_dir, "message-pairs", *pairs(options.seed, options.train, options.test))


if __name__ == "__main__":
    main()
