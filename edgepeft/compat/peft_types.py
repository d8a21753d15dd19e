"""Adds a type to PEFT's list of adapter types.

Written for peft 0.21. PEFT takes methods of others (``register_peft_method``), but only of a type that its
enumeration ``PeftType`` lists, and an enumeration is closed: the member is put into Python's own tables of it
(``_member_names_``, ``_member_map_``, ``_value2member_map_``). A ``register_peft_method`` that takes new types
would make this unnecessary.
"""

from __future__ import annotations


def add_peft_type(name: str) -> None:
    """Make ``name`` a member of ``PeftType``, unless it is one."""
    from peft.utils import PeftType

    if name in list(PeftType):
        return
    member = str.__new__(PeftType, name)
    member._name_, member._value_ = name, name
    type.__setattr__(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
