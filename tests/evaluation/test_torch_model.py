"""The reference model in torch: its logits are the model's own, its answers real greedy ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from edgepeft.checkpoints.outer_head import OuterHead
from edgepeft.data.prompt import Prompter
from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.probes import Question
from edgepeft.evaluation.torch_model import ANSWER_SLACK, TorchModel, even_batches
from edgepeft.evaluation.verify import exact_match
from tests.conftest import ModelMaker
from tests.stages import write_adapter
from tests.tiny import FAMILIES

STOP = 2


def load(folder: Path, adapter: Path | None = None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model if adapter is None else PeftModel.from_pretrained(model, str(adapter)).eval()


def some_ids(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(5, 400, (count,), generator=generator).tolist())


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_head_on_hidden_states_gives_the_models_own_logits(
    tiny_model: ModelMaker, tmp_path: Path, family: str, adapted: bool
) -> None:
    folder = tiny_model(family)
    model = load(folder, write_adapter(folder, tmp_path / "adapter") if adapted else None)
    ids = some_ids(30, 0)
    with torch.no_grad():
        own = model(input_ids=torch.tensor([ids])).logits[0]
    measured = TorchModel(model)
    logits = measured.logits(measured.hidden([ids])[0])
    torch.testing.assert_close(logits, own, atol=1e-5, rtol=0)
    measured.check_head(ids)


@pytest.mark.parametrize(
    ("family", "outer"),
    [
        ("llama", {"divide": 1.0, "softcap": None}),
        ("gemma2", {"divide": 1.0, "softcap": 2.0}),
        ("gemma3", {"divide": 1.0, "softcap": None}),
        ("granite", {"divide": 0.5, "softcap": None}),
    ],
)
def test_what_comes_after_the_head_is_read_from_the_configuration(
    tiny_model: ModelMaker, family: str, outer: dict[str, Any]
) -> None:
    found = TorchModel(load(tiny_model(family))).outer
    assert found.as_dict() == outer
    values = torch.randn(3, 5) * 3
    assert torch.equal(OuterHead(**found.as_dict())(values), found(values))
    expected = values / outer["divide"]
    if outer["softcap"]:
        expected = outer["softcap"] * torch.tanh(expected / outer["softcap"])
    torch.testing.assert_close(found(values), expected)


@pytest.mark.parametrize("family", ["gemma2", "granite"])
def test_a_head_that_does_more_than_is_known_is_noticed(
    tiny_model: ModelMaker, family: str
) -> None:
    measured = TorchModel(load(tiny_model(family)))
    measured.outer = OuterHead()
    with pytest.raises(EdgepeftError, match="does more after its head than edgepeft knows"):
        measured.check_head(some_ids(8, 0))


@pytest.fixture(scope="module")
def llama(tiny_model: ModelMaker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Prompter]:
    folder = tiny_model("llama")
    adapter = write_adapter(folder, tmp_path_factory.mktemp("adapter"))
    return load(folder, adapter), Prompter.from_folder(folder)


def greedy(model: Any, prompt: list[int], length: int, stops: Iterable[int]) -> list[int]:
    """What transformers itself generates, the stop token included."""
    with torch.no_grad():
        whole = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=length,
            do_sample=False,
            eos_token_id=sorted(stops),
            pad_token_id=0,
        )
    return list(whole[0, len(prompt) :].tolist())


def spelled_out(prompter: Prompter, text: str) -> list[int]:
    """The same text in single characters."""
    encode = prompter.tokenizer.encode
    return [i for character in text for i in encode(character, add_special_tokens=False).ids]


def with_token(answer: list[int], place: int, token: int) -> list[int]:
    return [*answer[:place], token, *answer[place + 1 :]]


CHANGES: dict[str, Callable[[Prompter, list[int]], list[int]]] = {
    "its own answer": lambda prompter, answer: answer,
    "in other tokens": lambda prompter, answer: [
        *spelled_out(prompter, prompter.decode(answer[:-1])),
        answer[-1],
    ],
    "a token less": lambda prompter, answer: [*answer[:-2], answer[-1]],
    "a token more": lambda prompter, answer: [
        *answer[:-1],
        *spelled_out(prompter, "Q"),
        answer[-1],
    ],
    "another first token": lambda prompter, answer: with_token(
        answer, 0, spelled_out(prompter, "Q")[0]
    ),
    "another last token": lambda prompter, answer: with_token(
        answer, -2, spelled_out(prompter, "Q")[0]
    ),
    "something else": lambda prompter, answer: [*spelled_out(prompter, "else"), answer[-1]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_answer_is_right_where_greedy_generation_gives_its_text(
    llama: tuple[Any, Prompter], change: str
) -> None:
    model, prompter = llama
    measured, right = TorchModel(model), []
    for seed in range(40):
        prompt = some_ids(12, seed)
        free = greedy(model, prompt, 6, [])
        if len(set(free)) < 6 or not all(prompter.decode([token]).strip() for token in free):
            continue
        # Random models say no end of their own accord, so the sixth token is taken for one.
        stops = {free[-1]}
        prompter.stop_ids = frozenset(stops)
        completion = CHANGES[change](prompter, greedy(model, prompt, 6, stops))
        text = prompter.decode(completion).strip()
        length = len(completion) + ANSWER_SLACK
        answer = prompter.decode(greedy(model, prompt, length, stops)).strip()
        question = Question(prompt, completion, text, "here")
        (hidden,) = measured.hidden([prompt + completion])
        assert measured.answers(question, hidden, prompter) == (answer == text)
        right.append(answer == text)
    assert len(right) >= 4
    assert right == [change in ("its own answer", "in other tokens")] * len(right)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 100))
def test_batches_hold_every_row_once_and_rows_of_one_length_alone(
    lengths: list[int], tokens: int
) -> None:
    rows = [[1] * length for length in lengths]
    batches = list(even_batches(rows, tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        [length] = {lengths[index] for index in batch}
        assert len(batch) == 1 or len(batch) * length <= tokens


def test_rows_read_together_give_what_each_gives_alone(tiny_model: ModelMaker) -> None:
    base = load(tiny_model("llama"))
    prompt = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    rows = [some_ids(20, seed) for seed in range(5)]
    for model in (base, get_peft_model(base, prompt).eval()):
        measured = TorchModel(model)
        together = measured.hidden(rows)
        for row, states in zip(rows, together, strict=True):
            torch.testing.assert_close(measured.hidden([row])[0], states, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(together[0], together[1], atol=1e-2)


class Scripted(TorchModel):
    """A model that says its script, whatever it is asked."""

    def __init__(self, script: list[int], prompt: int) -> None:
        self._script, self._prompt = script, prompt
        self.vocabulary = 8

    def hidden(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Positions stand for themselves."""
        return torch.stack([torch.arange(len(ids)) for ids in rows])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """All weight on the script's token after each position."""
        places = hidden - self._prompt + 1
        ids = [self._script[p] if 0 <= p < len(self._script) else STOP for p in places.tolist()]
        return torch.nn.functional.one_hot(torch.tensor(ids), self.vocabulary).float()


# The stop token and a special one say nothing; a space may come before and after an answer.
LETTERS = {3: "a", 4: "b", 5: " ", 6: ""}


def decode(ids: Iterable[int]) -> str:
    return "".join(LETTERS.get(i, "") for i in ids)


BLANKS = st.lists(st.sampled_from([5, 6]), max_size=14)


@given(BLANKS, st.lists(st.sampled_from([3, 4, 5, 6]), max_size=4), BLANKS, st.booleans())
def test_answers_are_read_as_far_as_the_verifier_reads_them(
    before: list[int], completion: list[int], after: list[int], wrong: bool
) -> None:
    """Reference and bundle must be held to one rule: completion's length, and some tokens more."""
    script = [*before, *completion, *after, *([3] if wrong else [])]
    prompter: Any = SimpleNamespace(stop_ids=frozenset({STOP}), decode=decode)
    wanted = [*completion, STOP]
    question = Question([7, 7], wanted, decode(wanted).strip(), "here")
    said = script[: len(wanted) + ANSWER_SLACK]
    expected = decode(said).strip() == question.text
    model = Scripted(script, prompt=2)
    assert model.answers(question, model.hidden([[7, 7, *wanted]])[0], prompter) == expected

    def generate_ids(ids: list[int], *, max_new_tokens: int, stop_when: Any) -> list[int]:
        answer: list[int] = []
        for token in script[:max_new_tokens]:
            answer.append(token)
            if stop_when(answer):
                break
        return answer

    runtime: Any = SimpleNamespace(prompter=prompter, generate_ids=generate_ids)
    correct, missed, _ = exact_match(runtime, [question], lambda: None)
    assert correct == expected
    assert [entry.where for entry in missed] == ([] if expected else ["here"])
