"""Which modules an adapter's configuration chooses, by PEFT's own rules.

Written for peft 0.21. ``check_target_module_exists`` is a helper of ``peft.tuners.tuners_utils`` that PEFT's
documentation does not name. A public function that answers the same would make this unnecessary.
"""

from __future__ import annotations

from typing import Any


def is_target(config: Any, name: str) -> bool:
    """Whether a PeftConfig adapts the module ``name``."""
    from peft.tuners.tuners_utils import check_target_module_exists

    return bool(check_target_module_exists(config, name))
