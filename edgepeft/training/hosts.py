"""The hosts that train together, as a file that ``accelerate config`` wrote has them; needs no heavy library."""

from __future__ import annotations

from pathlib import Path

from edgepeft.config.loader import RecipeFile
from edgepeft.errors import InputError
from edgepeft.utils.files import read_text_file
from edgepeft.utils.scalars import TEXT_BYTES, TextProblem
from edgepeft.utils.yaml_text import read_yaml

_AVERAGING = ("MULTI_GPU", "MULTI_CPU", "NO")
"""Kinds of training that average gradients between whole models; all else would divide the model."""


def hosts_of(config: Path | None) -> int:
    """How many hosts there are, 1 without a file. Raises InputError for what is no such file."""
    if config is None:
        return 1
    key = f"training.accelerate_config: {config}"
    try:
        read = read_yaml(read_text_file(config, TEXT_BYTES))
    except FileNotFoundError:
        raise InputError(f"{key}: no such file") from None
    except (InputError, TextProblem) as error:
        raise InputError(f"{key}: cannot be read ({error})") from None
    if not isinstance(read, dict):
        raise InputError(f"{key}: not a file of `accelerate config`")
    kind = str(read.get("distributed_type", "MULTI_GPU"))
    if kind not in _AVERAGING:
        raise InputError(
            f"{key}: distributed_type {kind} shards the model, which is not supported; use MULTI_GPU or MULTI_CPU"
        )
    hosts = read.get("num_machines", 1)
    if not isinstance(hosts, int) or hosts < 1:
        raise InputError(f"{key}: num_machines: must be a positive number")
    if hosts > 1 and not (read.get("main_process_ip") and read.get("main_process_port")):
        raise InputError(f"{key}: several hosts need main_process_ip and main_process_port")
    return hosts


def processes_here(recipe: RecipeFile) -> int:
    """Training processes on this host. Raises InputError where the hosts can't share them evenly."""
    training = recipe.recipe.training
    config = training.accelerate_config
    if config is None:
        return training.processes
    hosts = hosts_of(recipe.resolve(config))
    if training.processes % hosts or training.processes == 1:
        raise InputError(
            f"training.processes: {training.processes} can't be shared evenly by {hosts} hosts; give a multiple "
            f"of {hosts}"
        )
    return training.processes // hosts
