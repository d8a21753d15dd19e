"""What the home-control sample's commands are made of: rooms, devices, verbs and the frames of sentences."""

from __future__ import annotations

from dataclasses import dataclass

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
