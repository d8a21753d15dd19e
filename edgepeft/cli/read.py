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
    texts: Sequence[tuple[str, str, tuple[str, ...]]],
    *,
    threads: int | None,
    provider: str | None,
    as_json: bool,
    show_stats: bool,
) -> None:
    """Read texts, given with where each comes from and the second ones that are read with it, and print what the
    model makes of each.

    A text that is too long is read as far as the model can, and that is told. Raises InputError, MissingError and
    EdgepeftError as the runtime does.
    """
    from edgepeft.errors import InputError
    from edgepeft.runtime import Encoder
    from edgepeft.runtime.readings import left_out, reading

    _check_seconds(bundle, texts)
    encoder = Encoder(bundle, threads=threads, provider=provider)
    started = time.perf_counter()
    for where, text, seconds_of in texts:
        try:
            answer = reading(encoder, text, seconds_of)
        except InputError as error:
            raise InputError(f"{where}: {error}" if where else str(error)) from None
        lost = max(encoder.tokens_lost(text, second) for second in seconds_of or (None,))
        if lost:
            place = f"{where}: " if where else ""
            print(f"warning: {place}{left_out(bundle, lost)}", file=sys.stderr)
        if as_json:
            shown = {"text": text, **answer, **({"tokens_left_out": lost} if lost else {})}
            if len(seconds_of) == 1 and "passages" not in answer:
                shown["text_pair"] = seconds_of[0]
            print(json.dumps(shown, ensure_ascii=False), flush=True)
        else:
            print("\n".join(_lines(answer)), flush=True)
    if show_stats:
        seconds = time.perf_counter() - started
        print(f"{len(texts)} texts, {len(texts) / seconds:.1f} texts/s", file=sys.stderr)


def _check_seconds(bundle: Bundle, texts: Sequence[tuple[str, str, tuple[str, ...]]]) -> None:
    """Raise InputError for a text without the second one that the bundle reads with it, or with one or several
    that it does not, before anything is loaded.
    """
    from edgepeft.errors import InputError
    from edgepeft.models.tasks import RANKING

    paired = bool(bundle.manifest["result"].get("paired", False))
    for where, _, further in texts:
        place = where or "run"
        if paired and not further:
            what = "ranks passages for a query" if bundle.task == RANKING else "reads two texts"
            raise InputError(
                f"{place}: {bundle.path.name} {what} and does not chat; give the second text with --pair, or "
                'rows of "query" and "passage" ("text" and "text_pair") with --prompts'
            )
        if further and not paired:
            raise InputError(
                f"{place}: {bundle.path.name} reads single texts; leave out the second one"
            )
        if len(further) > 1 and bundle.task != RANKING:
            raise InputError(f"{place}: {bundle.path.name} reads two texts; give --pair once")


def _lines(answer: dict[str, Any]) -> list[str]:
    """An answer for people: a label, a labelled span or a passage a line, or a vector's numbers in one."""
    if "passages" in answer:
        return [f"{one['score']:.4f}  {visible_line(one['text'])}" for one in answer["passages"]]
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
