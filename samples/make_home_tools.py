"""Write the home-tools sample: the commands of home-control, answered with calls of tools.

A command is one call, two commands in one breath are two, what no tool can do is answered in words. Some rows
go on behind the call: what the tool says, and what the assistant makes of it. Every row brings its tools along,
as rows of other sources do. The same seed always writes the same bytes.

    python samples/make_home_tools.py --out-dir samples/data --seed 0 --train 600 --test 100
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from make_home_control import make_row, make_rows, write_rows
from split_options import parse_options

WORDS = range(1, 33)
"""How many of them a question may have."""
WHERE = {"device": {"type": "string"}, "room": {"type": "string"}}
MINUTES = {"type": "integer", "minimum": 1, "maximum": 90}
PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}
LEVEL = {"anyOf": [{"type": "number"}, {"type": "string"}]}

TOOLS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("switch", "Turn a device on or off.", {"on": {"type": "boolean"}, "minutes": MINUTES}, ["on"]),
    ("set_level", "Set a device to a number or a mode.", {"level": LEVEL}, ["level"]),
    (
        "change_level",
        "Move a device up or down.",
        {"up": {"type": "boolean"}, "by": {"type": "number"}},
        ["up"],
    ),
    ("open_close", "Open or close something.", {"open": {"type": "boolean"}, "percent": PERCENT}, ["open"]),
    ("lock", "Lock or unlock something.", {"locked": {"type": "boolean"}}, ["locked"]),
]  # fmt: skip
"""Name, description, further parameters beside device and room, and those that are required."""

CANNOT = (
    ("what will the weather be tomorrow", "I can't see the weather from here."),
    ("who won the game last night", "I only know about this house."),
    ("order some milk for the fridge", "I can't order anything."),
    ("call my sister and say I am late", "I can't make calls."),
    ("tell me a story about a lighthouse", "I am here for the devices of this house."),
    ("how much does a new heater cost", "I don't know any prices."),
    ("wake the dog up and take it out", "I can't do that, there is no device for it."),
    ("book a table for four on Friday", "I can't book anything."),
)
"""Requests that no tool can answer, and what is said to them."""
POLITE = (
    "{}",
    "{}, please",
    "please {}",
    "can you {}?",
    "could you {}?",
    "hi there, {}",
    "by the way, {}",
)
TIMES = ("", " now", " when you can", " for me", " today", " right away")
JOINTS = (" and ", ", and then ", ", also ", ". ")
DONE = "Done."
FAILED = "That did not work: {}."
TROUBLES = ("the device does not answer", "it is jammed", "it is switched off at the wall")


def definitions() -> list[dict[str, Any]]:
    """The tools in OpenAI's form."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": description,
                "parameters": {
                    "type": "object",
                    "properties": {**WHERE, **further},
                    "required": ["device", "room", *required],
                },
            },
        }
        for name, description, further, required in TOOLS
    ]


def call_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The call that does what an answer of home-control says."""
    action, value = answer["action"], answer["value"]
    extra: dict[str, Any]
    arguments = {"device": answer["device"], "room": answer["room"]}
    if action in ("turn_on", "turn_off", "start", "stop"):
        name = "switch"
        arguments["on"] = action in ("turn_on", "start")
        extra = {"minutes": value}
    elif action == "set":
        name, extra = "set_level", {"level": value}
    elif action in ("increase", "decrease"):
        name = "change_level"
        arguments["up"] = action == "increase"
        extra = {"by": value}
    elif action in ("open", "close"):
        name = "open_close"
        arguments["open"] = action == "open"
        extra = {"percent": value}
    else:
        name, extra = "lock", {}
        arguments["locked"] = action == "lock"
    arguments |= {key: one for key, one in extra.items() if one is not None}
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _result(rng: random.Random, calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the tools say, and the assistant behind them."""
    trouble = rng.choice(TROUBLES) if rng.random() < 0.3 else None
    results: list[dict[str, Any]] = [{"ok": True} for _ in calls]
    said = DONE
    if trouble is not None:
        results[-1] = {"ok": False, "error": trouble}
        said = FAILED.format(trouble)
    turns: list[dict[str, Any]] = [
        {"role": "tool", "content": json.dumps(result)} for result in results
    ]
    return [*turns, {"role": "assistant", "content": said}]


def make_messages(rng: random.Random) -> list[dict[str, Any]]:
    """Draw one conversation."""
    draw = rng.random()
    if draw < 0.1:
        asked, said = rng.choice(CANNOT)
        text = rng.choice(POLITE).format(f"{asked}{rng.choice(TIMES)}")
        return [{"role": "user", "content": text}, {"role": "assistant", "content": said}]
    commands = [make_row(rng) for _ in range(2 if draw < 0.25 else 1)]
    prompts = [command["prompt"] for command in commands]
    if len(prompts) == 2:
        first = prompts[0].rstrip(".!?")
        prompts = [f"{first}{rng.choice(JOINTS)}{prompts[1][0].lower()}{prompts[1][1:]}"]
    calls = [call_of(json.loads(command["completion"])) for command in commands]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": prompts[0]},
        {"role": "assistant", "content": "", "tool_calls": calls},
    ]
    return [*messages, *_result(rng, calls)] if rng.random() < 0.15 else messages


def _draw(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A row, and before it what it asks."""
    messages = make_messages(rng)
    return messages[0]["content"], {"messages": messages, "tools": definitions()}


def main(argv: Sequence[str] | None = None) -> None:
    """Write both files and the tools. Test rows are drawn first, so they do not depend on the train size."""
    args = parse_options("Write the home-tools sample data.", train=600, test=100, argv=argv)
    taken: set[str] = set()
    test = make_rows(random.Random(f"{args.seed} test"), args.test, taken, _draw, WORDS)
    train = make_rows(random.Random(f"{args.seed} train"), args.train, taken, _draw, WORDS)
    write_rows(args.out_dir / "home-tools.train.jsonl", train)
    write_rows(args.out_dir / "home-tools.test.jsonl", test)
    tools = json.dumps(definitions(), indent=2) + "\n"
    (args.out_dir / "home-tools.json").write_text(tools, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
