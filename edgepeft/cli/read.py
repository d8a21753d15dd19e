"""`edgepeft run` on a bundle of an encoder: labels with scores, labelled words, or a vector."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgepeft.utils.terminal_text import visible_line

if TYPE_CHECKING:
    from edgepeft.runtime import Bundle


def read_texts(
    bundle: Bundle,
    texts: Sequence[tuple[str, str]],
    *,
    threads: int | None,
    provider: str | None,
    as_json: bool,
    show_stats: bool,
) -> None:
    """Read texts, given with where each comes from, and print what the model makes of each.

    A text that is too long is read as far as the model can, and that is told. Raises InputError, MissingError and
    EdgepeftError as the runtime does.
    """
    from edgepeft.errors import InputError
    from edgepeft.runtime import Encoder
    from edgepeft.runtime.readings import left_out, reading

    encoder = Encoder(bundle, threads=threads, provider=provider)
    started = time.perf_counter()
    for where, text in texts:
        try:
            answer = reading(encoder, text)
        except InputError as error:
            raise InputError(f"{where}: {error}" if where else str(error)) from None
        lost = encoder.tokens_lost(text)
        if lost:
            place = f"{where}: " if where else ""
            print(f"warning: {place}{left_out(bundle, lost)}", file=sys.stderr)
        if as_json:
            shown = {"text": text, **answer, **({"tokens_left_out": lost} if lost else {})}
            print(json.dumps(shown, ensure_ascii=False), flush=True)
        else:
            print("\n".join(_lines(answer)), flush=True)
    if show_stats:
        seconds = time.perf_counter() - started
        print(f"{len(texts)} texts, {len(texts) / seconds:.1f} texts/s", file=sys.stderr)


def _lines(answer: dict[str, Any]) -> list[str]:
    """An answer for people: a label or a labelled span a line, or a vector's numbers in one."""
    if "vector" in answer:
        return [" ".join(f"{value:.6g}" for value in answer["vector"])]
    found = answer.get("labels", answer.get("spans"))
    if not found:
        return ["(no labelled words)"]
    width = max(len(visible_line(one["label"])) for one in found)
    return [
        f"{visible_line(one['label']):<{width}}  {one['score']:.3f}"
        + (f"  {visible_line(one['text'])}" if "text" in one else "")
        for one in found
    ]
