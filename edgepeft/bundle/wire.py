"""Protobuf's wire format, as far as it takes to walk a file that no library has vouched for.

Strict where libraries are lenient: what is not well formed raises, nothing is guessed, and nothing is copied.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Malformed(Exception):
    """The bytes are not the protobuf they should be; the argument says how."""


class Field(NamedTuple):
    """A field of a message: its number, and its value (``start`` is -1) or where its bytes lie."""

    number: int
    value: int
    start: int
    end: int


def fields(data: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """Each field between two offsets, in order. Raises Malformed."""
    at = start
    while at < end:
        tag, at = varint(data, at, end, 5)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Malformed(f"field number 0 at byte {at}")
        if wire == _BYTES:
            size, at = varint(data, at, end, 5)
            if size > end - at:
                raise Malformed(f"a field runs past its end at byte {at}")
            yield Field(number, 0, at, at + size)
            at += size
        elif wire == _VARINT:
            value, at = varint(data, at, end, 10)
            yield Field(number, value, -1, -1)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
            if at > end:
                raise Malformed(f"a field runs past its end at byte {at}")
            yield Field(number, 0, -1, -1)
        else:
            raise Malformed(f"wire type {wire} at byte {at}")


def varint(data: mmap.mmap, at: int, end: int, most: int) -> tuple[int, int]:
    """The unsigned number of at most ``most`` bytes at an offset, and the offset behind it. Raises Malformed."""
    value = 0
    for shift in range(0, 7 * most, 7):
        if at >= end:
            raise Malformed("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed(f"a number longer than {most} bytes at byte {at}")
