"""What may bound an answer, and what is refused: each with one line that names what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edgepeft.data.prompt import Prompter
from edgepeft.errors import InputError, MissingError
from edgepeft.guidance import Grammar
from edgepeft.guidance.judge import Judge
from edgepeft.guidance.keywords import inside
from edgepeft.guidance.vocabulary import Vocabulary
from tests.tiny import VOCAB_SIZE, write_tiny_tokenizer

pytest.importorskip("llguidance")

_LOOP = {
    "$defs": {
        "a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["x"]}
    },
    "$ref": "#/$defs/a",
}


@pytest.fixture(scope="module")
def prompter(tmp_path_factory: pytest.TempPathFactory) -> Prompter:
    return Prompter.from_folder(write_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="module")
def vocabulary(prompter: Prompter) -> Vocabulary:
    return Vocabulary(prompter.tokenizer, prompter.stop_ids, VOCAB_SIZE, "tiny")


def takes(vocabulary: Vocabulary, prompter: Prompter, grammar: Grammar, text: str) -> bool:
    """Whether the grammar lets ``text`` be the whole answer, token by token."""
    matcher = vocabulary.matcher(grammar)
    for token in prompter.tokenizer.encode(text, add_special_tokens=False).ids:
        if not matcher.allowed()[token]:
            return False
        matcher.take(token)
    return matcher.complete


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a"],
}


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        (Grammar.json_schema(SCHEMA), '{"a": 3, "b": "x"}', '{"a": "3"}'),
        (Grammar.json_schema(json.dumps(SCHEMA)), '{\n  "a": 3\n}', '{"b": "x"}'),
        # A key that is spelled with an escape would be another key than the one that is bound.
        (Grammar.json_schema(SCHEMA), '{"a":3,"c":null}', '{"a":3,"\\u0062":"z"}'),
        (Grammar.json_object(), '{"any": [1, {"thing": null}]}', "[1]"),
        (Grammar.regex(r"[a-c]+\d{2}"), "abc12", "abc1"),
        (Grammar.lark('start: "on" | "off" " "? NUMBER\nNUMBER: /[0-9]+/'), "off 12", "off"),
        (Grammar.choices(["turn on", "a.b", "[x] & {y}-~#/\\^$|?*+()\"'é\n"]), "a.b", "a-b"),
        (Grammar.choices(["[x] & {y}-~#/\\^$|?*+()\"'é\n"]), "[x] & {y}-~#/\\^$|?*+()\"'é\n", "x"),
    ],
)
def test_what_a_grammar_takes(
    vocabulary: Vocabulary, prompter: Prompter, grammar: Grammar, right: str, wrong: str
) -> None:
    assert takes(vocabulary, prompter, grammar, right)
    assert not takes(vocabulary, prompter, grammar, wrong)


def test_what_may_repeat_within_itself_is_taken(vocabulary: Vocabulary, prompter: Prompter) -> None:
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "inner": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name", "inner"],
            }
        },
        "$ref": "#/$defs/node",
    }
    text = '{"name": "a", "inner": [{"name": "b", "inner": []}]}'
    assert takes(vocabulary, prompter, Grammar.json_schema(tree), text)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{", "s.json: not JSON"),
        ('{"type": "string", "type": "object"}', "not JSON .the key 'type' is given twice"),
        ("[]", "s.json: a JSON Schema is an object"),
        ({"type": "objekt"}, "s.json: Invalid type: objekt"),
        (
            {"properties": {"a": {"requierd": []}}},
            "properties.a: 'requierd' is no keyword .* required?",
        ),
        ({"properties": {"a": 3}}, "s.json: properties.a: a schema is an object or a boolean"),
        ({"not": {"type": "string"}}, "can't be held while a text is written: not; leave it out"),
        ({"type": "array", "uniqueItems": True}, "is written: uniqueItems; leave"),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "use anyOf"),
        ({"type": "string", "pattern": "(?=a)b"}, "no look-ahead or look-behind"),
        ({"type": "string", "format": "nonsense"}, "Unknown format: nonsense"),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "Unsatisfiable schema"),
        ({"$ref": "https://example.com/schema.json"}, "is not present"),
        ({"$ref": "#/$defs/none"}, "Pointer '/\\$defs/none' does not exist"),
        ({"$ref": "#"}, "no finite text fits it"),
        (_LOOP, "no finite text fits it"),
        ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "no finite text fits it"),
        ({"enum": ["x" * 300_000]}, "larger than 262144 bytes"),
        ("[" * 500 + "]" * 500, "a JSON Schema is an object"),
        ('{"items":' * 200 + "{}" + "}" * 200, "nested too deeply"),
        ('{"items":' * 5000 + "{}" + "}" * 5000, "nested too deeply"),
    ],
)
def test_a_schema_that_is_none_or_bounds_nothing(schema: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as met:
        Grammar.json_schema(schema, "s.json")
    assert str(met.value).startswith("s.json: ")
    assert "\n" not in str(met.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Grammar.regex(""), "regex: is empty"),
        (lambda: Grammar.regex("\udcff"), "regex: holds half of a character"),
        (lambda: Grammar.choices(["a", "\ud800"]), "choices: holds half of a character"),
        (lambda: Grammar.json_schema({"const": "\udcff"}), "holds half of a character"),
        (lambda: Grammar.regex("("), "regex: not a regular expression: unclosed group"),
        (lambda: Grammar.regex("(?!a)"), "no look-ahead"),
        (lambda: Grammar.lark('begin: "a"'), "grammar: no start rule"),
        (lambda: Grammar.lark("start: other"), 'unknown name: "other"'),
        (lambda: Grammar.lark('start: start "a"'), "no text that"),
        (lambda: Grammar.lark("start: A\nA: /[a-c]+/ & /[x-z]+/"), "no text that"),
        (lambda: Grammar.choices([]), "choices: give one or more"),
        (lambda: Grammar.choices(["a", "b", "a"]), "choices: 'a' is given twice"),
        (lambda: Grammar.choices(["a", ""]), "none of them empty"),
        (lambda: Grammar.choices([str(number) for number in range(10_001)]), "more than 10000"),
        (lambda: Grammar.read("lark", Path("/nowhere/g.lark"), "--grammar"), "not found"),
    ],
)
def test_other_grammars_that_are_none(vocabulary: Vocabulary, make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as met:
        # What depends on no vocabulary is found when it is made, what allows nothing, with the first mask.
        vocabulary.matcher(make()).allowed()
    assert "\n" not in str(met.value)


def test_a_grammar_that_explodes_is_given_up(vocabulary: Vocabulary, prompter: Prompter) -> None:
    """Every state of this expression is another set of places: they double with each letter."""
    matcher = vocabulary.matcher(Grammar.regex("(.*a.{900}){20}"))
    (letter,) = prompter.tokenizer.encode("a", add_special_tokens=False).ids

    def follow() -> None:
        for _ in range(3000):
            matcher.allowed()
            matcher.take(letter)

    with pytest.raises(InputError, match=r"^regex: "):
        follow()


def test_a_vocabulary_without_a_character() -> None:
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"{"})
    tokenizer = Tokenizer(models.BPE({char: at for at, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>"])
    stop = tokenizer.token_to_id("</s>") or 0
    vocabulary = Vocabulary(tokenizer, {stop}, stop + 1, "poor")
    with pytest.raises(InputError, match=r"the vocabulary of poor can't spell '\{'"):
        vocabulary.matcher(Grammar.json_object())
    with pytest.raises(InputError, match=r"can't spell '\{'"):
        vocabulary.matcher(Grammar.choices(["a{b"]))
    # Where it is not in the grammar's own text, it shows when nothing else may come.
    matcher = vocabulary.matcher(Grammar.regex(r"a\x7b"))
    matcher.take(alphabet.index("a"))
    with pytest.raises(InputError, match="no text that the vocabulary can spell"):
        matcher.allowed()
    assert vocabulary.matcher(Grammar.regex("ab")).forced()


def test_what_no_grammar_can_end(prompter: Prompter) -> None:
    with pytest.raises(InputError, match="names no token that ends an answer"):
        Vocabulary(prompter.tokenizer, (), VOCAB_SIZE, "endless")


def test_a_tokenizer_of_words() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    with pytest.raises(InputError, match="words: answers can't be bounded with this tokenizer"):
        Vocabulary(words, {1}, 2, "words")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install 'edgepeft\[guided\]'"):
        Grammar.regex("a")


def test_a_long_name_is_no_load() -> None:
    """Thousands of parts under a name of any length: places in errors are cut, and so is what is kept."""
    schema: dict[str, Any] = {"properties": {"k" * 20_000: {"anyOf": [{}] * 5_000}}}
    assert max(len(place) for place, _ in inside(schema)) <= 200


def test_what_a_reference_finds_elsewhere_is_no_endless_schema() -> None:
    schema = {"$ref": "#/x-types/room", "x-types": {"room": {"type": "string"}}}
    assert Grammar.json_schema(schema).kind == "json_schema"


@pytest.mark.parametrize("pattern", [r"^\p{L}+$", "(?<year>[0-9]{4})"])
def test_a_pattern_that_python_does_not_read_is_one_line(pattern: str) -> None:
    judge = Judge(json.dumps({"type": "string", "pattern": pattern}))
    with pytest.raises(InputError, match="the schema can't be judged by"):
        judge.objection('"abc"')
