"""`edgepeft run`: what goes to stdout and stderr, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from edgepeft.cli import run
from edgepeft.cli.answers import print_answer
from edgepeft.errors import InputError, InterruptedRun
from edgepeft.runtime import Runtime
from tests.runtime.fabricate import edit_json

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runtime(tiny_bundle: Path) -> Runtime:
    return Runtime(tiny_bundle)


@pytest.fixture
def ask(tiny_bundle: Path) -> Callable[..., None]:
    """The command on the tiny bundle, with short answers."""

    def asked(prompt: str | None = None, **options: Any) -> None:
        short = {} if options.get("score") else {"max_new_tokens": 8}
        run.command(tiny_bundle, prompt, **{**short, **options})

    return asked


def _stdin(monkeypatch: pytest.MonkeyPatch, text: str, *, tty: bool = False) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: tty, raising=False)
    monkeypatch.setattr(sys.stdin, "read", lambda: text, raising=False)


def test_the_options_are_those_of_the_command_line(tiny_bundle: Path) -> None:
    app = typer.Typer()
    app.command()(run.command)
    options = "--system s --max-new-tokens 4 --temperature 1 --top-k 5 --top-p 0.9 --seed 3"
    more = "--repetition-penalty 1.1 --stop X --stop Y --threads 1 --json --no-stats --no-check"
    arguments = [str(tiny_bundle), "hello", *options.split(), *more.split()]
    first, again = (CliRunner().invoke(app, arguments) for _ in range(2))
    assert first.exit_code == 0, first.output
    line = json.loads(first.stdout)
    assert set(line) == {"prompt", "text", "finish_reason", "tokens", "seconds"}
    assert line["prompt"] == "hello"
    assert line["tokens"] <= 4
    assert json.loads(again.stdout)["text"] == line["text"]
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert "--no-check" in help_text


def test_an_answer_goes_to_stdout_and_talk_to_stderr(
    ask: Callable[..., None], runtime: Runtime, capsys: Capture
) -> None:
    ask("hello", stats=True)
    out, err = capsys.readouterr()
    assert out == runtime.complete("hello", max_new_tokens=8).text + "\n"
    warning, speed = err.splitlines()
    assert warning.startswith("warning:")
    assert "not verified" in warning
    assert speed.startswith("8 tokens, ")


@pytest.mark.parametrize("prompt", ["-", None])
def test_a_prompt_from_stdin(
    ask: Callable[..., None],
    runtime: Runtime,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    prompt: str | None,
) -> None:
    _stdin(monkeypatch, "two\nlines\n")
    ask(prompt)
    assert capsys.readouterr().out == runtime.complete("two\nlines", max_new_tokens=8).text + "\n"


def test_nothing_on_stdin(ask: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    _stdin(monkeypatch, "\n")
    with pytest.raises(InputError, match="the prompt is empty"):
        ask()


def test_a_failed_gate_is_told_and_a_passed_one_not(
    small: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise InputError("far enough")

    monkeypatch.setattr("edgepeft.runtime.Runtime", stop)
    for gates, count in (("passed", 0), (["max_task_kl: 0.07 > 0.05"], 1)):
        edit_json(small / "edgepeft.json", "fidelity", {"gates": gates})
        with pytest.raises(InputError, match="far enough"):
            run.command(small, "x")
        assert capsys.readouterr().err.count("max_task_kl: 0.07 > 0.05") == count


def test_without_a_check_a_changed_file_is_let_through(small: Path) -> None:
    (small / "onnx/model_q4.onnx_data").write_bytes(bytes(64))
    with pytest.raises(InputError, match="changed"):
        run.command(small, "x")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        run.command(small, "x", check=False)


# A file of prompts.


def _write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_a_file_of_prompts(
    ask: Callable[..., None], runtime: Runtime, capsys: Capture, tmp_path: Path
) -> None:
    user = {"role": "user", "content": "b"}
    system = {"role": "system", "content": "own"}
    answer = {"role": "assistant", "content": "left out"}
    path = _write(
        tmp_path / "prompts.jsonl",
        {"prompt": "a", "completion": "ignored"},
        "",
        {"messages": [user, answer]},
        {"messages": [system, user]},
    )
    ask(prompts=path, system="given", stats=True)
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["prompt"] for line in lines] == ["a", [user], [system, user]]
    expected = [
        runtime.complete("a", system="given", max_new_tokens=8),
        runtime.complete("b", system="given", max_new_tokens=8),
        runtime.complete("b", system="own", max_new_tokens=8),
    ]
    assert [line["text"] for line in lines] == [done.text for done in expected]
    assert "3 prompts, 24 tokens" in err


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "1",
        {"question": "a"},
        {"prompt": 1},
        {"prompt": "a", "messages": []},
        {"messages": []},
        {"messages": ["a"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "assistant", "content": "a"}]},
    ],
)
def test_a_bad_row_is_named_before_any_is_answered(
    ask: Callable[..., None], capsys: Capture, tmp_path: Path, row: Any
) -> None:
    path = _write(tmp_path / "prompts.jsonl", {"prompt": "good"}, row)
    with pytest.raises(InputError, match=r"prompts\.jsonl line 2: "):
        ask(prompts=path)
    assert capsys.readouterr().out == ""


def test_a_row_the_model_cannot_read_is_named(ask: Callable[..., None], tmp_path: Path) -> None:
    path = _write(tmp_path / "prompts.jsonl", {"prompt": "word " * 600})
    with pytest.raises(InputError, match=r"prompts\.jsonl line 1: prompt: \d+ tokens"):
        ask(prompts=path)


def test_files_of_prompts_that_cannot_be_read(ask: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        ask(prompts=tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="no prompts"):
        ask(prompts=tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(InputError, match="not UTF-8"):
        ask(prompts=tmp_path / "latin.jsonl")


def test_options_that_contradict_each_other(
    ask: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="not both"):
        ask("hello", prompts=tmp_path / "prompts.jsonl")
    _stdin(monkeypatch, "", tty=True)
    with pytest.raises(InputError, match="--json needs a prompt"):
        ask(as_json=True)


# Interruption and chat.


def _interrupting(pieces: int) -> Callable[..., Iterator[str]]:
    """A stand-in for ``Stream.__next__`` that is interrupted after so many pieces."""
    from edgepeft.runtime.answer import Stream

    original = Stream.__next__
    left = [pieces]

    def interrupted(self: Stream) -> str:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return original(self)

    return interrupted  # type: ignore[return-value]


def test_ctrl_c_ends_a_prompt_as_interrupted(
    ask: Callable[..., None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepeft.runtime.answer.Stream.__next__", _interrupting(1))
    with pytest.raises(InterruptedRun):
        ask("hello")
    assert capsys.readouterr().out.endswith("\n")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the user types into the chat; an exception is a key that raises it."""

    def set_lines(*lines: Any) -> None:
        pending = list(lines)

        def read(prompt: str) -> str:
            line = pending.pop(0)
            if isinstance(line, str):
                return line
            raise line

        _stdin(monkeypatch, "", tty=True)
        monkeypatch.setattr("builtins.input", read)

    return set_lines


def test_a_chat_remembers_until_it_is_reset(
    ask: Callable[..., None], runtime: Runtime, typed: Callable[..., None], capsys: Capture
) -> None:
    typed("one", "two", "/reset", "two", "", "/help", "/nonsense", "/exit")
    ask()
    out, err = capsys.readouterr()
    first = runtime.complete("one", max_new_tokens=8).text
    second = runtime.complete(
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": first},
            {"role": "user", "content": "two"},
        ],
        max_new_tokens=8,
    ).text
    alone = runtime.complete("two", max_new_tokens=8).text
    assert out == f"{first}\n{second}\n{alone}\n"
    assert "Cleared." in err
    assert err.count("/reset  clear") == 2


def test_leaving_a_chat(
    ask: Callable[..., None], typed: Callable[..., None], capsys: Capture
) -> None:
    typed(EOFError())
    ask()
    typed(KeyboardInterrupt(), KeyboardInterrupt())
    ask()
    assert "Ctrl-C again" in capsys.readouterr().err
    typed(KeyboardInterrupt(), "/help", KeyboardInterrupt(), EOFError())
    ask()


def test_ctrl_c_stops_an_answer_and_then_leaves(
    ask: Callable[..., None],
    typed: Callable[..., None],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgepeft.runtime.answer.Stream.__next__", _interrupting(1))
    typed("one", KeyboardInterrupt())
    ask(max_new_tokens=200, stats=True)
    assert "Ctrl-C again" not in capsys.readouterr().err


def test_a_message_too_long_does_not_end_the_chat(
    ask: Callable[..., None], typed: Callable[..., None], runtime: Runtime, capsys: Capture
) -> None:
    typed("word " * 600, "one", "/exit")
    ask()
    out, err = capsys.readouterr()
    assert out == runtime.complete("one", max_new_tokens=8).text + "\n"
    assert "/reset clears" in err


def test_an_answer_cannot_drive_the_terminal(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_answer(iter(["a\x1b[31m", "b\tc\nd\x9b\x07"]))
    assert capsys.readouterr().out == "a\\u001b[31mb\tc\nd\\u009b\\u0007\n"


def test_an_answer_goes_into_a_file_as_it_is(capsys: Capture) -> None:
    print_answer(iter(["a\x1b[31m", "\u202e"]))
    assert capsys.readouterr().out == "a\x1b[31m\u202e\n"


# Scores.


def test_completions_are_scored_in_the_order_given(
    ask: Callable[..., None], runtime: Runtime, capsys: Capture
) -> None:
    words = ["green", "blue\nsky"]
    wanted = [runtime.score("What colour?", word, system="Short.") for word in words]
    ask("What colour?", score=words, system="Short.", stats=True)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{wanted[0].nats:.4f}  green",
        f"{wanted[1].nats:.4f}  blue\\nsky",
    ]
    assert "2 completions, " in err
    ask("What colour?", score=words, system="Short.", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["prompt"] == "What colour?"
    for entry, word, score in zip(found["scores"], words, wanted, strict=True):
        assert (entry["completion"], entry["nats"]) == (word, pytest.approx(score.nats))
        assert [token["id"] for token in entry["tokens"]] == [one.id for one in score.tokens]
        assert sum(token["nats"] for token in entry["tokens"]) == pytest.approx(score.nats)
        assert "".join(token["token"] for token in entry["tokens"]) == word + "<|im_end|>"


def test_raw_text_and_files_of_prompts_are_scored(
    ask: Callable[..., None], runtime: Runtime, capsys: Capture, tmp_path: Path
) -> None:
    ask("The sky is", score=[" blue"], raw=True)
    wanted = runtime.score("The sky is", " blue", raw=True).nats
    assert capsys.readouterr().out == f"{wanted:.4f}   blue\n"
    messages = [{"role": "system", "content": "Own."}, {"role": "user", "content": "b"}]
    path = _write(tmp_path / "p.jsonl", {"prompt": "a"}, {"messages": messages})
    ask(prompts=path, score=["x", "y"], system="Other.")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["nats"] for one in first["scores"]] == pytest.approx(
        [runtime.score("a", word, system="Other.").nats for word in "xy"]
    )
    assert second["scores"][0]["nats"] == pytest.approx(runtime.score("b", "x", system="Own.").nats)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"regex": "a"}, "--score: nothing is answered, so leave out what bounds an answer"),
        ({"stop": ["a"]}, "leave out --stop"),
        ({"temperature": 0.5}, "leave out how tokens are chosen"),
        ({"max_new_tokens": 3}, "leave out how tokens are chosen"),
        ({"speculate": True}, "leave out --speculate"),
        ({"raw": True, "system": "s"}, "raw text has no roles"),
        ({"score": None, "raw": True}, "--raw: goes with --score"),
        ({"score": ["long " * 600]}, "score: prompt and completion are"),
    ],
)
def test_what_does_not_go_with_scores(
    ask: Callable[..., None], options: dict[str, Any], wanted: str
) -> None:
    if "regex" in options:
        pytest.importorskip("llguidance")
    with pytest.raises(InputError) as caught:
        ask("x", **{"score": ["y"], **options})
    assert wanted in str(caught.value)
