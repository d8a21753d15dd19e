"""Whether low-rank factors are finite once they are multiplied out: B A times a scale, in float32."""

from __future__ import annotations

from pathlib import Path

from edgepeft.errors import InputError

LARGEST = 3.0e38
"""Just below float32's largest number."""


def check_scaled(
    where: Path, module: str, largest: tuple[float, float], rank: int, scale: float
) -> None:
    """Raise InputError where a change of weights could be infinite.

    ``largest`` are the largest magnitudes in A and in B. A sum of ``rank`` products can't be more than their
    product times the rank, and no adapter that was ever trained comes near the bound.
    """
    bound = largest[0] * largest[1] * rank * max(abs(scale), 1.0)
    if not bound <= LARGEST or not largest[1] * abs(scale) <= LARGEST:
        raise InputError(
            f"{where}: {module}: its factors are not finite once multiplied out and scaled by {scale:.3g}"
        )
