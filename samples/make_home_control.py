"""Write the home-control sample: spoken commands to a home, each with the JSON a device would obey.

The task is small enough to learn in minutes, yet has one right answer per command, so a fine-tuned
model can be scored by exact match. Every answer follows from the words alone: a verb names the
action, a noun the device, and room and value are copied from the text. The same seed always writes
the same bytes, so the committed files can be checked against this script.

    python samples/make_home_control.py --out-dir samples/data --seed 0 --train 960 --test 200
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Value = int | float | str | None

MIN_WORDS = 6
MAX_WORDS = 16
TRIES_PER_ROW = 200

INDOOR = (
    "kitchen",
    "bedroom",
    "bathroom",
    "hallway",
    "office",
    "garage",
    "nursery",
    "attic",
    "basement",
    "living room",
    "dining room",
    "guest room",
)
OUTDOOR = ("garden", "greenhouse", "patio", "terrace", "balcony")
ON_ROOMS = frozenset({"patio", "terrace", "balcony"})


@dataclass(frozen=True)
class Device:
    """A kind of device: what people call it, where it stands, and the values each action takes.

    `actions` maps an action to the kinds of value it can be given; the kind "none" means that the
    command may leave the value out, and the answer then says null.
    """

    name: str
    spoken: tuple[str, ...]
    rooms: tuple[str, ...]
    actions: dict[str, tuple[str, ...]]
    plural: bool = False
    words: tuple[str, ...] = ()


SWITCHED: dict[str, tuple[str, ...]] = {"turn_on": ("none",), "turn_off": ("none",)}
TIMED: dict[str, tuple[str, ...]] = {"turn_on": ("none", "minutes"), "turn_off": ("none",)}
LOCKED: dict[str, tuple[str, ...]] = {
    "open": ("none",),
    "close": ("none",),
    "lock": ("none",),
    "unlock": ("none",),
}
COVERING: dict[str, tuple[str, ...]] = {
    "open": ("none", "none", "extent"),
    "close": ("none",),
    "set": ("percent",),
}


def _adjustable(*kinds: str, step: str) -> dict[str, tuple[str, ...]]:
    """The actions of a device with a level: set it, or move it by a step that is mostly stated."""
    return {"set": kinds, "increase": ("none", step, step), "decrease": ("none", step, step)}


DEVICES = (
    Device(
        "lamp",
        ("lamp", "lamp", "light"),
        INDOOR + OUTDOOR,
        SWITCHED | _adjustable("percent", "word", "word", step="percent"),
        words=("red", "blue", "green", "orange", "purple", "white"),
    ),
    Device(
        "fan",
        ("fan",),
        INDOOR,
        TIMED | _adjustable("level", "mode", step="level"),
        words=("breeze", "sleep", "turbo"),
    ),
    Device(
        "tv",
        ("tv", "tv", "television"),
        INDOOR,
        SWITCHED | _adjustable("volume", "word", "word", step="points"),
        words=("news", "sports", "cartoons", "movies"),
    ),
    Device(
        "heater",
        ("heater",),
        INDOOR,
        TIMED | _adjustable("degrees", "mode", step="warmth"),
        words=("eco", "boost"),
    ),
    Device(
        "thermostat",
        ("thermostat",),
        INDOOR,
        _adjustable("degrees", "degrees", "mode", step="warmth"),
        words=("eco", "away", "comfort"),
    ),
    Device(
        "speaker",
        ("speaker",),
        INDOOR + OUTDOOR,
        SWITCHED | _adjustable("volume", "word", "word", step="points"),
        words=("jazz", "rock", "piano", "folk"),
    ),
    Device(
        "humidifier",
        ("humidifier",),
        INDOOR,
        TIMED | _adjustable("percent", step="percent"),
    ),
    Device("blinds", ("blinds",), INDOOR, COVERING, plural=True),
    Device("curtains", ("curtains",), INDOOR, COVERING, plural=True),
    Device("window", ("window",), INDOOR, LOCKED),
    Device("door", ("door",), INDOOR + OUTDOOR, LOCKED),
    Device("gate", ("gate",), OUTDOOR, LOCKED),
    Device(
        "vacuum",
        ("vacuum",),
        INDOOR,
        {"start": ("none", "minutes"), "stop": ("none",), "set": ("mode",)},
        words=("quiet", "turbo", "spot"),
    ),
    Device(
        "washer",
        ("washer",),
        INDOOR,
        {"start": ("none",), "stop": ("none",), "set": ("mode", "degrees")},
        words=("cotton", "wool", "quick", "delicate"),
    ),
    Device(
        "sprinkler",
        ("sprinkler",),
        OUTDOOR,
        {"start": ("none", "minutes"), "stop": ("none",)},
    ),
)

# Chosen first, so that the rare locks are learned as well as the common settings.
ACTION_WEIGHTS = {
    "turn_on": 11,
    "turn_off": 9,
    "set": 29,
    "increase": 11,
    "decrease": 11,
    "open": 10,
    "close": 8,
    "lock": 6,
    "unlock": 6,
    "start": 9,
    "stop": 7,
}


@dataclass(frozen=True)
class Verb:
    """A way to say an action: base form, optional particle ("on", "up"), and past participle."""

    base: str
    particle: str
    participle: str


VERBS: dict[str, tuple[Verb, ...]] = {
    "turn_on": (
        Verb("turn", "on", "turned"),
        Verb("turn", "on", "turned"),
        Verb("switch", "on", "switched"),
    ),
    "turn_off": (
        Verb("turn", "off", "turned"),
        Verb("turn", "off", "turned"),
        Verb("switch", "off", "switched"),
    ),
    "set": (
        Verb("set", "", "set"),
        Verb("set", "", "set"),
        Verb("change", "", "changed"),
        Verb("adjust", "", "adjusted"),
    ),
    "increase": (
        Verb("increase", "", "increased"),
        Verb("raise", "", "raised"),
        Verb("turn", "up", "turned"),
    ),
    "decrease": (
        Verb("decrease", "", "decreased"),
        Verb("lower", "", "lowered"),
        Verb("turn", "down", "turned"),
    ),
    "open": (Verb("open", "", "opened"),),
    "close": (
        Verb("close", "", "closed"),
        Verb("close", "", "closed"),
        Verb("shut", "", "shut"),
    ),
    "lock": (Verb("lock", "", "locked"),),
    "unlock": (Verb("unlock", "", "unlocked"),),
    "start": (
        Verb("start", "", "started"),
        Verb("start", "", "started"),
        Verb("launch", "", "launched"),
    ),
    "stop": (
        Verb("stop", "", "stopped"),
        Verb("stop", "", "stopped"),
        Verb("halt", "", "halted"),
    ),
}

# {} is a clause in the imperative, such as "turn the lamp off in the kitchen".
IMPERATIVE_FRAMES = (
    "{}",
    "{}",
    "{}",
    "please {}",
    "please {}",
    "{}, please",
    "{}, thanks",
    "{} for me",
    "{} now",
    "{} right away",
    "{} when you can",
    "{}, would you?",
    "can you {}?",
    "could you {}?",
    "could you please {}?",
    "would you {}?",
    "will you {} for me?",
    "would it be possible to {}?",
    "I'd like you to {}",
    "I want you to {}",
    "I need you to {}",
    "I would be glad if you could {}",
    "go ahead and {}",
    "do me a favor and {}",
    "be so kind and {}",
    "kindly {}",
    "just {}, please",
    "let's {}",
    "it is time to {}",
    "you may {} now",
)

# {np} is the thing, {done} the participle with its value, {be} and {need} agree with the thing.
PASSIVE_FRAMES = (
    "I'd like {np} {done}",
    "I'd like to have {np} {done}, please",
    "I want {np} {done} now",
    "I need {np} {done}",
    "please have {np} {done}",
    "make sure {np} {be} {done}",
    "{np} should be {done}",
    "{np} {need} to be {done}",
    "{np} must be {done} right away",
    "can {np} be {done}?",
    "could {np} be {done}, please?",
    "can I get {np} {done}?",
)

# Telegraph style: the thing first, then what to do with it.
TOPIC_FRAMES = (
    "{room} {dev}: {do}, please",
    "{room} {dev}, {do} now, thanks",
    "for the {room} {dev}: {do}, please",
    "about the {room} {dev}, please {do} {it}",
    "the {dev} {loc}, could you {do} {it}?",
)

# Only for setting: the value alone says what is wanted.
VALUE_FRAMES = (
    "I'd like {value} on the {room} {dev}",
    "please give me {value} on the {dev} {loc}",
    "{value} for the {room} {dev}, please",
)

SMALL_TALK = (
    "good morning,",
    "good evening,",
    "hi there,",
    "hello house,",
    "ok house,",
    "one more thing,",
    "before I forget,",
    "we have guests,",
    "dinner is ready,",
    "I'm back,",
    "sorry to bother you,",
    "by the way,",
)


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


def plain(prompt: str) -> str:
    """A prompt without case and punctuation: two prompts that agree here count as the same one."""
    return " ".join(re.sub(r"[^a-z0-9 ]", "", prompt.lower()).split())


def make_rows(rng: random.Random, count: int, taken: set[str]) -> list[dict[str, str]]:
    """Draw `count` rows of fitting length whose prompts are not in `taken`, and add them to it."""
    rows: list[dict[str, str]] = []
    for _ in range(count * TRIES_PER_ROW):
        if len(rows) == count:
            break
        row = make_row(rng)
        key = plain(row["prompt"])
        if key not in taken and MIN_WORDS <= len(row["prompt"].split()) <= MAX_WORDS:
            taken.add(key)
            rows.append(row)
    if len(rows) < count:
        raise SystemExit(
            f"only {len(rows)} different commands found for {count} rows: ask for fewer"
        )
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write one JSON object per line, with the same line ends on every system."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def _count(text: str) -> int:
    """Read a number of rows, so that a negative one is refused as a usage error."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be negative: {number}")
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Write both files. The test rows are drawn first, so they do not depend on the train size."""
    parser = argparse.ArgumentParser(description="Write the home-control sample data.")
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).resolve().parent / "data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=_count, default=960, help="number of train rows")
    parser.add_argument("--test", type=_count, default=200, help="number of test rows")
    args = parser.parse_args(argv)

    taken: set[str] = set()
    test = make_rows(random.Random(f"{args.seed} test"), args.test, taken)
    train = make_rows(random.Random(f"{args.seed} train"), args.train, taken)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    write_rows(args.out_dir / "home-control.train.jsonl", train)
    write_rows(args.out_dir / "home-control.test.jsonl", test)


if __name__ == "__main__":
    main()
