"""What bounds an answer: a JSON Schema, a regular expression, a Lark grammar, a list of choices, or nothing.

llguidance is the one engine: it follows every way of decoding, so the same grammar allows the same tokens in all.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.errors import InputError, MissingError, one_line
from edgepeft.guidance.schema import MOST_BYTES, checked_schema, require_size
from edgepeft.utils import strict_json
from edgepeft.utils.files import read_text_file

Kind = Literal["json_schema", "regex", "lark", "choices", "free"]

_MOST_CHOICES = 10_000
JSON_ESCAPES = 'nrbtf\\"'
"""With \\u a key that the schema bounds could be spelled as another one."""
_JSON_OPTIONS: dict[str, Any] = {
    # A model that is lost writes spaces without end: a space, or a line and its indentation, is enough.
    "whitespace_pattern": r"\x20|\x0A[\x20\x09]{0,16}",
    "json_allowed_escapes": JSON_ESCAPES,
}


@dataclass(frozen=True)
class Grammar:
    """A bound of answers, looked over; made by its class methods.

    ``text`` is the schema as JSON, the expression, the grammar, or the choices as a JSON list. ``where`` says in
    errors whence it came.
    """

    kind: Kind
    text: str
    where: str = "grammar"

    @classmethod
    def json_schema(cls, schema: dict[str, Any] | str, where: str = "json_schema") -> Grammar:
        """A JSON Schema, or its text.

        Keys come in the order of ``properties``. ``x-guidance`` in it may set llguidance's ``item_separator``,
        ``key_separator`` and ``whitespace_flexible``. Raises InputError for one that is none, has words that
        can't bound an answer (which are named), or is met by nothing; MissingError without llguidance.
        """
        if isinstance(schema, str):
            try:
                schema = strict_json.loads(schema)
            except ValueError as error:
                raise InputError(f"{where}: not JSON ({one_line(error)})") from None
        return cls("json_schema", checked_schema(schema, where), where)._checked()

    @classmethod
    def json_object(cls, where: str = "json_object") -> Grammar:
        """Any JSON object."""
        return cls.json_schema({"type": "object"}, where)

    @classmethod
    def regex(cls, expression: str, where: str = "regex") -> Grammar:
        """The whole answer fits a regular expression, without look-around. Raises as ``json_schema``."""
        return cls("regex", _sized(expression, where), where)._checked()

    @classmethod
    def lark(cls, grammar: str, where: str = "grammar") -> Grammar:
        """A grammar in llguidance's dialect of Lark, which begins at ``start``. Raises as ``json_schema``."""
        return cls("lark", _sized(grammar, where), where)._checked()

    @classmethod
    def choices(cls, texts: Sequence[str], where: str = "choices") -> Grammar:
        """One of some texts. Raises InputError for none, an empty one, one given twice, or thousands."""
        if not texts or not all(texts):
            raise InputError(f"{where}: give one or more texts, none of them empty")
        if len(texts) > _MOST_CHOICES:
            raise InputError(f"{where}: {len(texts)} texts are more than {_MOST_CHOICES}")
        twice = next((text for at, text in enumerate(texts) if text in texts[:at]), None)
        if twice is not None:
            raise InputError(f"{where}: {twice[:80]!r} is given twice")
        text = _sized(json.dumps(list(texts), ensure_ascii=False), where)
        return cls("choices", text, where)._checked()

    @classmethod
    def read(cls, kind: Kind, path: Path, where: str) -> Grammar:
        """A schema or a Lark grammar from a file. Raises InputError, which names the file."""
        at = f"{where} {path}"
        try:
            text = read_text_file(path, 4 * MOST_BYTES)
        except FileNotFoundError:
            raise InputError(f"{at}: not found") from None
        return cls.json_schema(text, at) if kind == "json_schema" else cls.lark(text, at)

    @property
    def compiled(self) -> str:
        """The form that llguidance's matchers take. Raises InputError, MissingError without it."""
        matcher = engine().LLMatcher
        if self.kind == "json_schema":
            own = json.loads(self.text).get("x-guidance")
            # A pattern would come before what the schema itself says of spaces.
            fixed = isinstance(own, dict) and "whitespace_flexible" in own
            defaults = {
                name: value
                for name, value in _JSON_OPTIONS.items()
                if not (fixed and name == "whitespace_pattern")
            }
            try:
                form: str = matcher.grammar_from_json_schema(
                    self.text, defaults=defaults, overrides={"lenient": False}
                )
            except ValueError as error:
                raise InputError(f"{self.where}: {one_line(error)[:300]}") from None
            return form
        if self.kind == "lark":
            return str(matcher.grammar_from_lark(self.text))
        if self.kind == "choices":
            texts = "|".join(_literal(text) for text in json.loads(self.text))
            return str(matcher.grammar_from_regex(f"({texts})"))
        return str(matcher.grammar_from_regex(self.text))

    def _checked(self) -> Grammar:
        """Raise InputError for what llguidance can't compile, whatever the vocabulary."""
        said = engine().LLMatcher.validate_grammar(self.compiled, limits=limits())
        if said and not said.startswith("WARNING"):
            raise InputError(f"{self.where}: {explained(said)}")
        return self


NO_TEXT = "no text that the vocabulary can spell fits it"

FREE = Grammar("free", "")
"""No bound, also where a bundle has one of its own."""


def engine() -> Any:
    """llguidance. Raises MissingError where it is not installed."""
    if importlib.util.find_spec("llguidance") is None:
        raise MissingError("llguidance is not installed: pip install 'edgepeft[guided]'")
    import llguidance

    return llguidance


def limits() -> Any:
    """What compiling and following a grammar may take: some 20 ms a step, and some 40 MB."""
    return engine().LLParserLimits(
        max_lexer_states=20_000, max_grammar_size=100_000, verbose_errors=False
    )


def explained(said: str) -> str:
    """llguidance's complaint in one line, its commonest ones with what helps."""
    line = one_line(said).replace("<non-verbose/>", "").strip()
    words = re.match(r"Unimplemented keys: \[(.*)\]", line)
    if words:
        names = words[1].replace('"', "")
        return f"can't be held while a text is written: {names}; leave it out"
    if line.startswith("oneOf constraints"):
        return "oneOf of schemas that one value may fit twice can't be held; use anyOf"
    if line.startswith("NoExtension"):
        return NO_TEXT
    if "look-around" in line:
        return "a regular expression here has no look-ahead or look-behind"
    # Of a report with the source in it, what is wrong.
    of_regex = re.search(r"regex parse error: .* error: (.*?)(?: \d+ \| |$)", line)
    if of_regex:
        return f"not a regular expression: {of_regex[1]}"
    return line[:300] or "can't be compiled"


def _literal(text: str) -> str:
    """A text as a regular expression of Rust's, which does not take every escape that Python writes."""
    return re.sub(r"([\\.+*?()|\[\]{}^$#&\-~/])", r"\\\1", text)


def _sized(text: str, where: str) -> str:
    if not text.strip():
        raise InputError(f"{where}: is empty")
    require_size(text, where)
    return text
