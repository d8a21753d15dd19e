"""YAML and JSON that anyone may have written, read within limits and as it was meant.

The parser's events are put together here, one node after the other, so that nothing grows beyond the limits: a
file's bytes, its depth, and its values with every alias written out. Plain scalars are read as YAML 1.2 does,
where ``no``, ``1:30`` and ``2024-01-01`` are text; a recipe's sections take ``yes`` and ``no`` for what they mean
where they want true or false. A key given twice, a tag, and a number that is not finite or beyond 64 bits are
refused.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from edgepeft.utils.json_text import read_json
from edgepeft.utils.scalars import (
    DEPTH,
    TEXT_BYTES,
    VALUES,
    TextProblem,
    checked_text,
    plain_value,
)
from edgepeft.utils.terminal_text import CONTROLS, shortened

_TEXT_PER_VALUE = 64

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}


def read_yaml(text: str) -> Any:
    """The value that a text in YAML or JSON stands for. Raises TextProblem."""
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES:
        raise TextProblem(f"is longer than {TEXT_BYTES} bytes")
    if text.lstrip()[:1] in ("{", "["):
        try:
            return read_json(text)
        except json.JSONDecodeError:
            pass  # a flow mapping of YAML begins alike
    try:
        return _Builder().value_of(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None)
        # The end of a text may count as a line of its own.
        line = min(mark.line + 1, len(text.splitlines())) if mark else None
        raise TextProblem(f"not valid YAML: {problem or 'unreadable'}", line, syntax=True) from None
    except UnicodeEncodeError:
        raise TextProblem("holds half of a character, which is no text") from None


def write_yaml(value: Any) -> str:
    """A value as YAML that ``read_yaml`` reads again as it was, and other readers too."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def quoted(text: str) -> str:
    """A text as one that ``read_yaml`` reads as it is, whatever is in it."""
    written: str = yaml.dump(text, Dumper=_Dumper, default_style='"', width=2**31)
    return written.strip()


def flow(value: Any) -> str:
    """A value as YAML in one line, for ``read_yaml`` and other readers."""
    written: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=True,
        width=2**31,
    )
    return written.removesuffix("...\n").strip()


def _tag(tag: str) -> str:
    """A tag as it is written."""
    return shortened(tag.replace("tag:yaml.org,2002:", "!!"), 40)


@dataclass
class _Frame:
    """A list or mapping in the making.

    ``values`` counts what it holds and ``height`` its levels, with every alias written out.
    """

    made: list[Any] | dict[str, Any]
    place: str
    anchor: str | None
    values: int = 1
    height: int = 1
    key: str | None = None
    merges: bool = False
    lines: dict[tuple[bool, str], int] = field(default_factory=dict)
    merged: list[dict[str, Any]] = field(default_factory=list)


class _Builder:
    """Puts the events of one document together."""

    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._values = 0
        self._result: Any = None
        self._documents = 0
        self._line = 1

    def value_of(self, text: str) -> Any:
        """The value of the document. Raises TextProblem, yaml.YAMLError."""
        for event in yaml.parse(text, Loader=_Loader):
            if event.start_mark is not None:
                self._line = event.start_mark.line + 1
            try:
                self._take(event)
            except TextProblem as problem:
                raise TextProblem(f"{self._place()}{problem}", self._line) from None
        return self._result

    def _place(self) -> str:
        """Where the next value goes, for a message."""
        if not self._frames:
            return ""
        frame = self._frames[-1]
        parts = (frame.place, shortened(frame.key, 40) if frame.key is not None else "")
        found = ".".join(part for part in parts if part)
        return f"{found}: " if found else ""

    def _take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise TextProblem("is a second document; one is read")
            case yaml.AliasEvent():
                self._alias(str(event.anchor))
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._open(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close()

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > VALUES:
            raise TextProblem(
                f"holds more than the {VALUES} values that are read, every alias written out"
            )

    def _alias(self, name: str) -> None:
        if self._awaits_key():
            raise TextProblem("a key must be written out")
        found = self._anchors.get(name, ())
        if found is None:
            raise TextProblem(f"*{shortened(name, 24)} refers to what it is part of")
        if not found:
            raise TextProblem(f"*{shortened(name, 24)} has no anchor before it")
        value, values, height = found
        self._count(values)
        self._check_depth(height)
        # One that is changed later must not change the other.
        self._add(copy.deepcopy(value), values, height)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        size = 1 + len(event.value) // _TEXT_PER_VALUE
        self._count(size)
        text = checked_text(event.value)
        if self._awaits_key():
            self._begin_key(text, size, plain=event.implicit[0])
            return
        value = self._value_of(text, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, size, 0)
        self._add(value, size, 0)

    def _value_of(self, text: str, event: yaml.ScalarEvent) -> Any:
        tag = event.tag
        if tag is None:
            return plain_value(text) if event.implicit[0] else text
        if tag in ("!", "tag:yaml.org,2002:str"):
            return text
        if tag not in _CORE:
            raise TextProblem(f"the tag {_tag(tag)} is not read; write a plain value")
        value = plain_value(text)
        kind = tag.rpartition(":")[2]
        kinds = {"null": type(None), "bool": bool, "int": int, "float": float}
        if kind == "float" and type(value) is int:
            value = float(value)
        if type(value) is not kinds[kind]:
            raise TextProblem(f"{shortened(text, 24)} is no {kind}, as its tag says")
        return value

    def _open(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        self._count(1)
        if self._awaits_key():
            raise TextProblem("a key must be text, and this one is a list or a mapping")
        self._check_depth(1)
        if event.tag not in (None, "!", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"):
            raise TextProblem(f"the tag {_tag(event.tag)} is not read; leave it out")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        made: list[Any] | dict[str, Any] = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self._frames.append(_Frame(made, self._place().removesuffix(": "), event.anchor))

    def _close(self) -> None:
        frame = self._frames.pop()
        if isinstance(frame.made, dict):
            for merged in frame.merged:
                for key, value in merged.items():
                    frame.made.setdefault(key, value)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (frame.made, frame.values, frame.height)
        self._add(frame.made, frame.values, frame.height)

    def _awaits_key(self) -> bool:
        frame = self._frames[-1] if self._frames else None
        return frame is not None and isinstance(frame.made, dict) and frame.key is None

    def _begin_key(self, text: str, size: int, *, plain: bool) -> None:
        frame = self._frames[-1]
        frame.key, frame.merges = text, plain and text == "<<"
        known = (frame.merges, text)
        if known in frame.lines:
            raise TextProblem(f"is given twice, in line {frame.lines[known]} and here; keep one")
        frame.lines[known] = self._line
        frame.values += size

    def _check_depth(self, more: int) -> None:
        if len(self._frames) + more > DEPTH:
            raise TextProblem(f"is nested more than {DEPTH} levels deep")

    def _add(self, value: Any, values: int, height: int) -> None:
        """Put a finished value where it belongs."""
        if not self._frames:
            self._result = value
            return
        frame = self._frames[-1]
        frame.values += values
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.made, list):
            frame.made.append(value)
        elif frame.merges:
            many = value if isinstance(value, list) else [value]
            if not all(isinstance(one, dict) for one in many):
                raise TextProblem("merges mappings alone; name an anchor of one")
            frame.merged += many
        else:
            assert frame.key is not None
            frame.made[frame.key] = value
        frame.key = None


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes wherever either version of YAML would read something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def write_text(self, data: str) -> yaml.ScalarNode:
        try:
            plain = isinstance(plain_value(data), str)
        except TextProblem:
            plain = False
        style = None if plain else "'"
        if CONTROLS.search(data):
            style = '"'  # the one style that has escapes for the ends of lines beyond ASCII
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.write_text)
