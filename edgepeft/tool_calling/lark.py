"""Writing a grammar in llguidance's dialect of Lark: literals with control tokens in them, rules, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from edgepeft.guidance.grammar import JSON_ESCAPES
from edgepeft.tool_calling.syntax import ID


class Lark:
    """A grammar while it is written. ``parts`` takes a literal apart into text and ids of control tokens."""

    def __init__(self, parts: Callable[[str], list[str | int]]) -> None:
        self._parts = parts
        self._rules: list[str] = []

    @property
    def text(self) -> str:
        """The whole grammar."""
        return "\n".join([*self._rules, ""])

    def rule(self, name: str) -> Callable[[str], None]:
        """Takes the body of a rule; rules stand in the order in which they are begun."""
        place = len(self._rules)
        self._rules.append("")

        def write(body: str) -> None:
            self._rules[place] = f"{name}: {body}"

        return write

    def lazily(self, pattern: str) -> str:
        """The name of a rule for a pattern that ends as early as it can."""
        name = f"lazy{len(self._rules)}"
        self._rules.append(f"{name}[lazy]: /{pattern}/")
        return name

    def terminal(self, pattern: str, without: str | None = None) -> str:
        """The name of a terminal of texts that fit a pattern, and not another one."""
        name = f"TEXT{len(self._rules)}"
        other = "" if without is None else f" & ~/{without}/"
        self._rules.append(f"{name}: /{pattern}/{other}")
        return name

    def literal(self, text: str) -> str:
        """A text as the template writes it, control tokens and ids of calls in their places."""
        found = []
        for at, piece in enumerate(text.split(ID)):
            if at:
                found.append("/[A-Za-z0-9]{9}/")
            found += [
                f"<[{part}]>" if isinstance(part, int) else json.dumps(part, ensure_ascii=False)
                for part in self._parts(piece)
            ]
        return " ".join(found) or '""'

    def before_token(self, text: str) -> tuple[str, str] | None:
        """A literal cut at its first control token, which no text can hold; None where it has none."""
        parts = self._parts(text)
        at = next((at for at, part in enumerate(parts) if isinstance(part, int)), None)
        if at is None:
            return None
        before = str(parts[0]) if at else ""
        return before, text[len(before) :]

    def tokens(self, ids: Sequence[int]) -> str:
        """Any of some control tokens."""
        return f"<[{','.join(map(str, ids))}]>"

    def json(self, schema: dict[str, Any], style: tuple[str, str]) -> str:
        """JSON that fits a schema, written with separators of items and of keys in one ``style``."""
        item, key = style
        written = {
            "whitespace_flexible": False,
            "item_separator": item,
            "key_separator": key,
            "json_allowed_escapes": JSON_ESCAPES,
        }
        return f"%json {json.dumps({**schema, 'x-guidance': written}, ensure_ascii=False)}"

    def pattern(self, text: str) -> str:
        """A text as a pattern, between slashes."""
        return re.sub(r"([\\.+*?()|\[\]{}^$#&\-~/])", r"\\\1", text).replace("\n", "\\n")
