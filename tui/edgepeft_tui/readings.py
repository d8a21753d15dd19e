"""What an encoder makes of a text, as markup: labels with bars, labelled words, a vector's head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft_tui.plain_text import plain, plain_line, visible_line
from edgepeft_tui.words import HANG, marked

_BAR = 20
_MOST_LABELS = 10
_MOST_SIMILAR = 5


def reading_markup(text: str, reading: Mapping[str, Any]) -> str:
    """An answer of ``edgepeft_tui.answering`` about ``text``, whichever kind it is."""
    if "labels" in reading:
        lines = _labels(reading["labels"])
    elif "spans" in reading:
        lines = _spans(text, reading["spans"])
    else:
        lines = _vector(reading)
    if reading.get("warning"):
        lines.append(marked("warning", plain_line(reading["warning"])))
    return "\n".join(lines)


def bar(share: float, width: int = _BAR) -> str:
    """A share of the whole as a bar of ``width`` cells."""
    full = round(min(1.0, max(0.0, share)) * width)
    return f"[$bar]{'█' * full}[/]{' ' * (width - full)}"


def _labels(labels: list[Mapping[str, Any]]) -> list[str]:
    shown, rest = labels[:_MOST_LABELS], labels[_MOST_LABELS:]
    names = [visible_line(label["label"]) for label in shown]
    width = max(map(len, names), default=0)
    lines = [
        f"{plain(f'{name:<{width}}')}  {label['score']:.3f}  {bar(label['score'])}"
        for name, label in zip(names, shown, strict=True)
    ]
    if rest:
        sum_of = sum(label["score"] for label in rest)
        lines.append(f"[$muted]and {len(rest)} more, {sum_of:.3f} together[/]")
    return lines


def _spans(text: str, spans: list[Mapping[str, Any]]) -> list[str]:
    if not spans:
        return ["[$muted](no words were labelled)[/]"]
    said, at = "", 0
    for span in spans:
        said += plain(text[at : span["start"]])
        said += f"[b $text-success]»{plain(text[span['start'] : span['end']])}«[/]"
        at = span["end"]
    labels = [visible_line(span["label"]) for span in spans]
    width = max(map(len, labels))
    return [
        said + plain(text[at:]),
        *(
            f"{plain(label.ljust(width))}  {span['score']:.3f}  {HANG}{plain_line(span['text'])}"
            for label, span in zip(labels, spans, strict=True)
        ),
    ]


def _vector(reading: Mapping[str, Any]) -> list[str]:
    more = " …" if reading["dimensions"] > len(reading["head"]) else ""
    head = " ".join(f"{number:.4f}" for number in reading["head"]) + more
    lines = [
        f"{reading['dimensions']} numbers, length {reading['length']:.3f}",
        f"[$muted]{head}[/]",
    ]
    similar = sorted(reading["similar"], key=lambda pair: -pair[1])
    lines += [
        f"{cosine:6.3f}  {bar(cosine, 10)}  {HANG}{plain_line(text)}"
        for text, cosine in similar[:_MOST_SIMILAR]
    ]
    if not similar:
        lines.append("[$muted]the next text is compared with this one[/]")
    elif len(similar) > _MOST_SIMILAR:
        lines.append(f"[$muted]and {len(similar) - _MOST_SIMILAR} less similar ones[/]")
    return lines
