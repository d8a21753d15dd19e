"""Write the support-desk sample: customers' messages, each with the ticket it should become.

A harder task than home-control: a dozen kinds of fault, told in many ways and among idle talk, lead to a team and
a severity; the product is named in the words of customers; the ticket has four fields on one line. Each answer
follows from the message alone, so that exact match can be scored. Rows are CSV with the columns ``instruction``,
``input`` and ``output``. The same seed always writes the same bytes.

    python samples/make_support_desk.py --out-dir samples/data --seed 0 --train 960 --test 200
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path

from split_options import parse_options

INSTRUCTION = "Turn the message into a ticket: team; severity; product; reply."

PRODUCTS = {
    "router": ("router", "wifi box", "modem"),
    "camera": ("camera", "doorbell camera", "indoor cam"),
    "thermostat": ("thermostat", "heating control", "temperature dial"),
    "speaker": ("speaker", "smart speaker", "sound box"),
    "lock": ("lock", "smart lock", "door lock"),
    "vacuum": ("vacuum", "robot vacuum", "cleaning robot"),
    "watch": ("watch", "smart watch", "fitness watch"),
}


@dataclass(frozen=True)
class Fault:
    """A kind of trouble: who looks after it, how grave it is, and how people put it."""

    team: str
    severity: str
    reply: str
    told: tuple[str, ...]


FAULTS = (
    Fault(
        "safety",
        "critical",
        "unplug",
        ("my {p} is smoking", "there are sparks coming from the {p}"),
    ),
    Fault(
        "safety", "high", "stop using", ("the {p} gets too hot to touch", "the {p} burned my hand")
    ),
    Fault(
        "security",
        "critical",
        "reset password",
        ("a stranger is using my {p}", "someone hacked my {p}"),
    ),
    Fault(
        "security",
        "medium",
        "send guide",
        ("how do I change the password of my {p}", "I forgot the code for the {p}"),
    ),
    Fault(
        "billing",
        "high",
        "refund",
        ("I was charged twice for the {p}", "you billed me two times for one {p}"),
    ),
    Fault(
        "billing",
        "low",
        "send invoice",
        ("I need an invoice for the {p}", "where is the receipt for my {p}"),
    ),
    Fault(
        "shipping",
        "medium",
        "track parcel",
        ("the {p} I ordered never arrived", "my {p} is lost in the mail"),
    ),
    Fault(
        "shipping",
        "low",
        "new label",
        ("the {p} came to the wrong address", "I want to send the {p} back"),
    ),
    Fault("hardware", "high", "replace", ("the {p} will not turn on", "my {p} is completely dead")),
    Fault(
        "hardware", "medium", "repair", ("a button fell off the {p}", "the {p} has a cracked case")
    ),
    Fault(
        "software", "medium", "update", ("the {p} crashes every hour", "my {p} keeps restarting")
    ),
    Fault(
        "software",
        "low",
        "log bug",
        ("the {p} shows the wrong time", "the app for the {p} is slow"),
    ),
)
OPENINGS = (
    *("Hi, ", "Hello there, ", "Good morning, ", "Hey, ", "To whom it may concern, ", ""),
    *("Sorry to bother you, ", "Quick question, ", "I am new here, ", "As I said on the phone, "),
)
ENDINGS = (
    *(".", ", please help.", ", what now?", " since yesterday.", " and I am not amused.", "!"),
    *(" and my neighbour says the same.", ", thanks in advance.", " again.", " this week."),
)
ASIDES = (
    *("", "", "I bought it in {m}. ", "It was a present. ", "I live in flat {n}. "),
    *("My order number is {o}. ", "We have had it for {n} weeks. ", "The weather is fine. "),
)
MONTHS = ("January", "March", "April", "June", "July", "September", "October", "December")


def make_row(rng: random.Random) -> tuple[str, str]:
    """One message and its ticket."""
    product = rng.choice(list(PRODUCTS))
    fault = rng.choice(FAULTS)
    words = rng.choice(fault.told).format(p=rng.choice(PRODUCTS[product]))
    opening = rng.choice(OPENINGS)
    if not opening:
        words = words[0].upper() + words[1:]
    aside = rng.choice(ASIDES).format(
        m=rng.choice(MONTHS), n=rng.randint(2, 60), o=rng.randint(10000, 99999)
    )
    sentence = f"{opening}{words}{rng.choice(ENDINGS)}"
    message = f"{aside}{sentence}" if rng.random() < 0.5 else f"{sentence} {aside}".strip()
    return message, f"{fault.team}; {fault.severity}; {product}; {fault.reply}"


def make_rows(
    seed: int, train: int, test: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Distinct messages for training and for testing."""
    rng = random.Random(seed)
    seen: dict[str, str] = {}
    while len(seen) < train + test:
        message, ticket = make_row(rng)
        seen.setdefault(message, ticket)
    rows = list(seen.items())
    return rows[:train], rows[train:]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write rows as CSV with the same line ends everywhere."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["instruction", "input", "output"])
        writer.writerows([INSTRUCTION, message, ticket] for message, ticket in rows)


def main() -> None:
    """Write support-desk.train.csv and support-desk.test.csv."""
    options = parse_options(str(__doc__), train=960, test=200)
    train, test = make_rows(options.seed, options.train, options.test)
    write_rows(options.out_dir / "support-desk.train.csv", train)
    write_rows(options.out_dir / "support-desk.test.csv", test)


if __name__ == "__main__":
    main()
