"""Fields of rows and messages that other people's code declares, read from the code where it is installed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import resources

from jinja2 import nodes

from edgepeft.data.sandbox import Sandbox
from tests.data import templates_in_use

# OpenAI, "Fine-tuning" and "Chat" in the API reference (https://platform.openai.com/docs/api-reference/fine-tuning,
# section "Training format for chat models", "... preference method", and /chat/create for the messages). There is
# no code of theirs to read them from.
OPENAI_COLUMNS = ("messages", "tools", "parallel_tool_calls", "functions")
OPENAI_PREFERENCE = ("input", "preferred_output", "non_preferred_output")
OPENAI_MESSAGES = (
    *("role", "content", "name", "weight", "refusal", "audio"),
    *("tool_calls", "tool_call_id", "function_call"),
)
OPENAI_PARTS = ("text", "image_url", "input_audio", "file", "refusal")

_ROWS = re.compile(r"example|examples\[0\]|first_example|column_names|dataset_sample|dataset|row")
_MESSAGES = re.compile(r"message|maybe_message|msg|turn|tool_messages\[0\]")
# What is looked up in a variable that is called after rows and is none: inputs of the trained model, counts.
_NO_COLUMNS = {"type", "content", "role", "filename", "from", "value"}


def trl_columns() -> set[str]:
    """Columns that TRL's trainers and its data utilities look up in a row, or keep for their own steps."""
    found = {name for base, name in _looked_up() if _ROWS.fullmatch(base)} - _NO_COLUMNS
    for tree in _trl_modules():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.List)):
                continue
            named = {ast.unparse(target) for target in node.targets}
            if named & {"self._signature_columns", "supported_keys"}:
                found |= {str(e.value) for e in node.value.elts if isinstance(e, ast.Constant)}
    return found


def trl_message_keys() -> set[str]:
    """Keys that TRL looks up in a message."""
    return {name for base, name in _looked_up() if _MESSAGES.fullmatch(base)}


def transformers_reasoning_keys() -> set[str]:
    """Names that transformers takes an assistant's reasoning by."""
    source = (resources.files("transformers") / "utils" / "chat_template_utils.py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_REASONING_FIELDS":
            return set(ast.literal_eval(node.value))
    raise AssertionError("transformers names its reasoning fields otherwise now")


def template_message_keys() -> set[str]:
    """Keys that the chat templates in use read of a message."""
    sandbox, found = Sandbox({}), set()
    for name in templates_in_use.names():
        tree = sandbox.parse(templates_in_use.source(name))
        messages = {"message", "m", "msg"}
        for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
            assert isinstance(node, nodes.Getattr | nodes.Getitem)
            if not isinstance(node.node, nodes.Name) or node.node.name not in messages:
                continue
            key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
            if isinstance(key, str) and key != "get":
                found.add(key)
        for call in tree.find_all(nodes.Call):
            getter = call.node
            if (
                isinstance(getter, nodes.Getattr)
                and getter.attr == "get"
                and isinstance(getter.node, nodes.Name)
                and getter.node.name in messages
                and isinstance(call.args[0], nodes.Const)
            ):
                found.add(call.args[0].value)
        for compare in tree.find_all(nodes.Compare):
            operand = compare.ops[0]
            if (
                operand.op in ("in", "notin")
                and isinstance(operand.expr, nodes.Name)
                and operand.expr.name in messages
                and isinstance(compare.expr, nodes.Const)
            ):
                found.add(compare.expr.value)
    return found


def _trl_modules() -> Iterator[ast.Module]:
    root = resources.files("trl")
    for entry in [*(root / "trainer").iterdir(), root / "data_utils.py"]:
        if entry.name.endswith(".py"):
            yield ast.parse(entry.read_text(encoding="utf-8"))


def _looked_up() -> Iterator[tuple[str, str]]:
    """Every string that is looked up in something, with what that is called."""
    for tree in _trl_modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript):
                base, key = node.value, node.slice
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("get", "pop")
                and node.args
            ):
                base, key = node.func.value, node.args[0]
            elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                base, key = node.comparators[0], node.left
            else:
                continue
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield ast.unparse(base), key.value
