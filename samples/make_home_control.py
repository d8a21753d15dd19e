"""Write the home-control sample: spoken commands to a home, each with the JSON a device would obey.

The task is small enough to learn in minutes, yet has one right answer per command, so a fine-tuned
model can be scored by exact match. Every answer follows from the words alone: a verb names the
action, a noun the device, and room and value are copied from the text. The same seed always writes
the same bytes, so the committed files can be checked against this script.

    python samples/make_home_control.py --out-dir samples/data --seed 0 --train 960 --test 200
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from home_control_words import (
    ACTION_WEIGHTS,
    DEVICES,
    IMPERATIVE_FRAMES,
    ON_ROOMS,
    PASSIVE_FRAMES,
    SMALL_TALK,
    TOPIC_FRAMES,
    VALUE_FRAMES,
    VERBS,
    Device,
    Verb,
)
from split_options import parse_options

Value = int | float | str | None

MIN_WORDS = 6
MAX_WORDS = 16
TRIES_PER_ROW = 200


@dataclass(frozen=True)
class Stated:
    """A value as the answer gives it, and the words that state it with and without preposition."""

    value: Value
    bare: str
    phrase: str


def _percent(rng: random.Random, top: int = 100) -> tuple[int, str]:
    number = rng.choice((rng.randrange(5, top + 1, 5), rng.randrange(2, top)))
    return number, rng.choice((f"{number} percent", f"{number} percent", f"{number}%"))


def _degrees(rng: random.Random, low: int, high: int) -> tuple[int | float, str]:
    number: int | float = rng.randrange(low, high)
    if rng.random() < 0.15:
        number += 0.5
    unit = "degree" if number == 1 else "degrees"
    return number, rng.choice((f"{number} {unit}", f"{number} {unit}", f"{number} {unit} Celsius"))


def _state_value(rng: random.Random, device: Device, action: str, kind: str) -> Stated:
    """Draw a value of one kind and say it: the answer copies its number or word from the text."""
    joint = "by" if action in ("increase", "decrease") else "to"
    value: Value
    if kind == "none":
        return Stated(None, "", "")
    if kind == "minutes":
        value = rng.randrange(2, 91)
        return Stated(value, "", f"for {value} minutes")
    if kind == "extent":
        value, bare = _percent(rng)
        return Stated(value, "", f"to {bare}")
    if kind == "percent":
        value, bare = _percent(rng, 100 if joint == "to" else 40)
    elif kind == "degrees":
        value, bare = _degrees(rng, *((20, 91) if device.name == "washer" else (14, 29)))
    elif kind == "warmth":
        value, bare = _degrees(rng, 1, 7)
    elif kind == "level":
        value = rng.randrange(1, 10)
        bare = f"level {value}" if joint == "to" else f"{value} level{'s' if value > 1 else ''}"
    elif kind == "volume":
        value = rng.randrange(1, 61)
        bare = f"volume {value}"
    elif kind == "points":
        value = rng.randrange(1, 21)
        bare = f"{value} point{'s' if value > 1 else ''}"
    elif kind == "mode":
        value = rng.choice(device.words)
        bare = f"{value} mode"
    else:
        value = bare = rng.choice(device.words)
    return Stated(value, bare, f"{joint} {bare}")


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _imperative(rng: random.Random, verb: Verb, spoken: str, room: str, phrase: str) -> str:
    """Order verb, particle, thing, place and value in one of the ways English allows."""
    where = f"{'on' if room in ON_ROOMS else 'in'} the {room}"
    place = rng.randrange(5)
    thing = f"the {room} {spoken}" if place < 2 else f"the {spoken}"
    if place == 2:
        thing = f"{thing} {where}"
    split = verb.particle and place != 2 and rng.random() < 0.5
    core = (
        _join(verb.base, thing, verb.particle) if split else _join(verb.base, verb.particle, thing)
    )
    if place == 3:
        return _join(core, phrase, where)
    if place == 4:
        return f"{where}, {_join(core, phrase)}"
    return _join(core, phrase)


def _clause(rng: random.Random, device: Device, action: str, room: str, stated: Stated) -> str:
    """Say the command once, in a phrasing drawn from the frames; case and prefix come later."""
    verb = rng.choice(VERBS[action])
    spoken = rng.choice(device.spoken)
    where = f"{'on' if room in ON_ROOMS else 'in'} the {room}"
    draw = rng.random()
    if action == "set" and draw < 0.08:
        frame = rng.choice(VALUE_FRAMES)
        return frame.format(value=stated.bare, room=room, dev=spoken, loc=where)
    if draw < 0.3:
        thing = rng.choice((f"the {room} {spoken}", f"the {spoken} {where}"))
        done = _join(verb.participle, verb.particle, stated.phrase)
        be, need = ("are", "need") if device.plural else ("is", "needs")
        return rng.choice(PASSIVE_FRAMES).format(np=thing, done=done, be=be, need=need)
    if draw < 0.42:
        it = "them" if device.plural else "it"
        frame = rng.choice(TOPIC_FRAMES)
        if "{it}" in frame:
            frame = frame.replace("{do} {it}", "{do}")
            do = _join(verb.base, it, verb.particle, stated.phrase)
        else:
            do = _join(verb.base, verb.particle, stated.phrase)
        return frame.format(room=room, dev=spoken, do=do, loc=where)
    frame = rng.choice(IMPERATIVE_FRAMES)
    clause = _imperative(rng, verb, spoken, room, stated.phrase)
    if clause.startswith(("in ", "on ")) and frame not in ("{}", "{} for me"):
        # A place in front reads well only before the polite form: "in the attic, could you ...".
        place, core = clause.split(", ", 1)
        return f"{place}, {frame.format(core)}"
    return frame.format(clause)


def _dress(rng: random.Random, text: str) -> str:
    """Add a greeting now and then, then the carelessness of typed text: case and end mark."""
    if rng.random() < 0.2:
        text = f"{rng.choice(SMALL_TALK)} {text}"
    if not text.endswith("?"):
        text += rng.choice((".", ".", ".", "", "", "!"))
    elif rng.random() < 0.2:
        text = text[:-1]
    if rng.random() < 0.25:
        return text.lower()
    if rng.random() < 0.7:
        text = re.sub(r"\btv\b", "TV", text)
    return text[0].upper() + text[1:]


def make_row(rng: random.Random) -> dict[str, str]:
    """Draw one command and its answer; the answer is drawn first and the words follow from it."""
    actions = list(ACTION_WEIGHTS)
    action = rng.choices(actions, weights=list(ACTION_WEIGHTS.values()))[0]
    device = rng.choice([item for item in DEVICES if action in item.actions])
    room = rng.choice(device.rooms)
    stated = _state_value(rng, device, action, rng.choice(device.actions[action]))
    prompt = _dress(rng, _clause(rng, device, action, room, stated))
    answer = {"device": device.name, "room": room, "action": action, "value": stated.value}
    return {"prompt": prompt, "completion": json.dumps(answer)}


def _draw(rng: random.Random) -> tuple[str, dict[str, str]]:
    """A row, and before it what it asks."""
    row = make_row(rng)
    return row["prompt"], row


def plain(prompt: str) -> str:
    """A prompt without case and punctuation: two prompts that agree here count as the same one."""
    return " ".join(re.sub(r"[^a-z0-9 ]", "", prompt.lower()).split())


def make_rows(
    rng: random.Random,
    count: int,
    taken: set[str],
    draw: Callable[[random.Random], tuple[str, dict[str, Any]]],
    words: range = range(MIN_WORDS, MAX_WORDS + 1),
) -> list[dict[str, Any]]:
    """Draw `count` rows, each with what it asks, in so many `words` and not in `taken`, and add that to it."""
    rows: list[dict[str, Any]] = []
    for _ in range(count * TRIES_PER_ROW):
        if len(rows) == count:
            break
        asked, row = draw(rng)
        key = plain(asked)
        if key not in taken and len(asked.split()) in words:
            taken.add(key)
            rows.append(row)
    if len(rows) < count:
        raise SystemExit(
            f"only {len(rows)} different commands found for {count} rows: ask for fewer"
        )
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write one JSON object per line, with the same line ends on every system."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Write both files. The test rows are drawn first, so they do not depend on the train size."""
    args = parse_options("Write the home-control sample data.", train=960, test=200, argv=argv)
    taken: set[str] = set()
    test = make_rows(random.Random(f"{args.seed} test"), args.test, taken, _draw)
    train = make_rows(random.Random(f"{args.seed} train"), args.train, taken, _draw)
    write_rows(args.out_dir / "home-control.train.jsonl", train)
    write_rows(args.out_dir / "home-control.test.jsonl", test)


if __name__ == "__main__":
    main()
