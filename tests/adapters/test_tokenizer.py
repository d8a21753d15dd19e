"""The tokenizer that an adapter's folder brings: silent where it is the base's, used or refused where it is
not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepeft.adapters.tokenizer import own_tokenizer
from edgepeft.checkpoints.base import save_tokenizer
from edgepeft.data.prompt import Prompter
from edgepeft.errors import InputError
from edgepeft.models.tokens import read_vocabulary, refuse_beyond
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_tokenizer
from tests.tiny_gguf import write_tiny_gguf

OWN = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_tokenizer(tmp_path / "base")


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))
    return folder


def test_a_folder_without_one_says_nothing(base: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    found = own_tokenizer(tmp_path / "adapter", base)
    assert (found.differs, found.notes) == (False, ())


def shortened(whole: dict[str, Any]) -> None:
    whole["truncation"] = {"max_length": 7, "stride": 0, "strategy": "LongestFirst"}
    whole["padding"] = {"strategy": "BatchLongest"}


def of_an_older_library(whole: dict[str, Any]) -> None:
    whole["model"]["merges"] = [" ".join(one) for one in whole["model"]["merges"]]


@pytest.mark.parametrize("change", [lambda whole: None, shortened, of_an_older_library])
def test_the_bases_own_is_used_in_silence(
    base: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    adapter = edited(write_tiny_tokenizer(tmp_path / "adapter"), change)
    found = own_tokenizer(adapter, base)
    assert (found.differs, found.notes) == (False, ())


def test_another_template_is_used_with_a_word(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_tokenizer(tmp_path / "adapter", template=OWN)
    found = own_tokenizer(adapter, base)
    assert (found.tokenizer, found.template) == (False, True)
    assert "brings a chat template of its own, which is used in the base's place" in found.notes[0]
    # A recipe that names a template leaves nothing to say.
    assert not own_tokenizer(adapter, base, templated=False).differs
    out = tmp_path / "out"
    out.mkdir()
    save_tokenizer(base, out, own=adapter)
    assert Prompter.from_folder(out).template_source == OWN


def test_more_tokens_are_used_with_their_names(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_tokenizer(tmp_path / "adapter", extra=("<a>", "<b>"))
    found = own_tokenizer(adapter, base)
    assert found.tokenizer
    assert "which is used in the base's place: 2 tokens more ('<a>', '<b>')" in found.notes[0]
    out = tmp_path / "out"
    out.mkdir()
    vocabulary = save_tokenizer(base, out, own=adapter)
    assert {"<a>", "<b>"} <= set(vocabulary)
    assert read_vocabulary(out) == vocabulary


def test_a_template_alone_goes_over_the_bases_tokenizer(base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "chat_template.jinja").write_text(OWN)
    assert own_tokenizer(adapter, base).template
    out = tmp_path / "out"
    out.mkdir()
    vocabulary = save_tokenizer(base, out, own=adapter)
    assert vocabulary == read_vocabulary(base)
    assert Prompter.from_folder(out).template_source == OWN


def test_a_tokenizer_without_a_template_keeps_the_bases(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_tokenizer(tmp_path / "adapter", template=None, extra=("<a>",))
    found = own_tokenizer(adapter, base)
    assert any("without a chat template; the base's is used" in note for note in found.notes)
    out = tmp_path / "out"
    out.mkdir()
    save_tokenizer(base, out, own=adapter)
    prompters = [Prompter.from_folder(folder) for folder in (out, base)]
    assert prompters[0].template_source == prompters[1].template_source


def swapped(whole: dict[str, Any]) -> None:
    vocabulary = whole["model"]["vocab"]
    one, other = list(vocabulary)[40:42]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


def renamed(whole: dict[str, Any]) -> None:
    vocabulary = whole["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary["another word"] = vocabulary.pop(last)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (swapped, r"gives '.+' the id 4\d, and the base gives it 4\d \(2 such tokens\)"),
        (renamed, r"gives 'another word' the id \d+, which the base gives '.+' \(1 such"),
        (lambda whole: whole.pop("model"), "not a tokenizer that can be read"),
    ],
)
def test_another_models_tokenizer_is_refused(
    base: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    adapter = edited(write_tiny_tokenizer(tmp_path / "adapter"), change)
    with pytest.raises(InputError, match=rf"adapter/tokenizer\.json: {match}"):
        own_tokenizer(adapter, base)


def test_a_free_token_may_get_a_name(tmp_path: Path) -> None:
    base = write_tiny_tokenizer(tmp_path / "base", extra=("<spare 0>", "<spare 1>"))
    adapter = write_tiny_tokenizer(tmp_path / "adapter", extra=("<tool>", "<spare 1>"))
    assert own_tokenizer(adapter, base).tokenizer


def test_another_end_of_text_is_used_with_a_word(base: Path, tmp_path: Path) -> None:
    adapter = write_tiny_tokenizer(tmp_path / "adapter")
    path = adapter / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": "<|pad|>"}))
    found = own_tokenizer(adapter, base)
    assert found.tokenizer
    assert (
        "sets eos_token to '<|pad|>', which is used; the base's is '<|im_end|>'" in found.notes[0]
    )
    out = tmp_path / "out"
    out.mkdir()
    save_tokenizer(base, out, own=adapter)
    assert Prompter.from_folder(out).special_tokens["eos_token"] == "<|pad|>"


def test_a_gguf_says_its_own_vocabulary(tiny_model: ModelMaker, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    model = write_tiny_gguf(tiny_model("llama"), tmp_path / "m.gguf")
    adapter = write_tiny_tokenizer(tmp_path / "adapter")
    found = own_tokenizer(adapter, model)
    assert (found.tokenizer, found.template) == (True, False)
    with pytest.raises(InputError, match="it is another model's tokenizer"):
        own_tokenizer(edited(adapter, swapped), model)


def test_tokens_without_rows_are_named_and_counted(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path, extra=("<a>", "<b>"))
    vocabulary = read_vocabulary(folder)
    assert vocabulary is not None
    size = max(vocabulary.values()) + 1
    refuse_beyond(vocabulary, size, folder)
    with pytest.raises(InputError, match=rf"token '<a>' with id {size - 2}, .* \(2 such tokens\)"):
        refuse_beyond(vocabulary, size - 2, folder)
    refuse_beyond(vocabulary, size - 2, folder, grown=["<a>"])
