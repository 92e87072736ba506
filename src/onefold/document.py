"""A document as text and as plain data: YAML with its line numbers, and environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onefold import secret
from onefold.errors import InvalidWorkspace, Problem

Path = tuple[str | int, ...]
# The keys an object may have, in the order they are written; a value is the shape of what stands below,
# and an empty one means anything.
Shape = Mapping[str, Any]

# What never needs quotes, unless it looks like a number or the like (older YAML: `yes` is true); and what
# needs no escapes.
_BARE = re.compile(r"(?!(?i:y|n|yes|no|on|off)\Z)[A-Za-z0-9_./$][A-Za-z0-9_./$ =<>()*+-]*(?<! )")
_PLAIN = re.compile(r"[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\U00010000-\U0001ffff]*")
# What the YAML reader says -> what people can do about it; True: the line where the thing begins.
_HINTS = (
    ("'\\t'", "a tab; indent with spaces", False),
    ("character '@'", "a text that begins with '@' must be in quotes, such as '@path'", False),
    ("mapping values are not", "a ':' out of place; check the indentation, or put the text in quotes", False),
    ("found duplicate key", "a key is given twice: ", False),
    ("a single document", "a second document; only one is read", False),
    ("while scanning a quoted", "a quote that opens here is never closed", True),
    ("but got '{'", "a text with '{' must be in quotes here, such as '${NAME}'", False),
    ("while parsing a flow", "a '{' or '[' that opens here or above is never closed", True),
    ("block end", "the indentation does not fit the lines above", False),
)


# --- YAML ---------------------------------------------------------------------------------------------


def parse(text: str, file: str) -> tuple[Any, dict[Path, int]]:
    """YAML as plain JSON-able data, and the line of each key and item. Raises InvalidWorkspace."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import RoundTripConstructor
    from ruamel.yaml.error import YAMLError

    class Constructor(RoundTripConstructor):
        """Leaves dates and times the text they were typed as."""

    Constructor.add_constructor("tag:yaml.org,2002:timestamp", Constructor.construct_yaml_str)
    yaml = YAML()
    yaml.Constructor = Constructor
    try:
        node = yaml.load(text)
    except YAMLError as error:
        raise InvalidWorkspace([_syntax(error)], file) from error
    lines: dict[Path, int] = {(): 1}
    problems: list[Problem] = []
    data = _plain(node, (), lines, problems)
    if problems:
        raise InvalidWorkspace(problems, file)
    return data, lines


def _syntax(error: Any) -> Problem:
    """What the YAML reader could not read, in one sentence that quotes no value."""
    said = f"{getattr(error, 'context', None) or ''}; {getattr(error, 'problem', None) or error}"
    key = re.search(r'duplicate key ("?[^"]*"?) with', said)
    mark, sentence = getattr(error, "problem_mark", None), said.splitlines()[0].strip("; ")
    for sign, hint, begins in _HINTS:
        if sign in said:
            sentence = hint + (key[1] if key and hint.endswith(": ") else "")
            mark = getattr(error, "context_mark", None) or mark if begins else mark
            break
    return Problem("YAML", sentence, mark.line + 1 if mark is not None else None)


def _plain(node: Any, path: Path, lines: dict[Path, int], problems: list[Problem]) -> Any:
    """A node of the YAML reader as dict, list, str, int, float, bool or None."""
    if isinstance(node, dict | list):
        marks: Any = getattr(node, "lc", None)
        for key, mark in ((marks and marks.data) or {}).items():
            lines[(*path, key)] = mark[0] + 1
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str):
                line = lines.get((*path, key), lines.get(path))
                problems.append(Problem(dotted(path), f"the key {key} must be text; put it in quotes", line))
        return {str(key): _plain(item, (*path, str(key)), lines, problems) for key, item in node.items()}
    if isinstance(node, list):
        return [_plain(item, (*path, index), lines, problems) for index, item in enumerate(node)]
    if node is None or isinstance(node, bool):
        return node
    for kind in (str, int, float):
        if isinstance(node, kind):
            return kind(node)
    # A tagged value, such as `!secret x` or `!!binary`.
    problems.append(Problem(dotted(path), "YAML tags such as `!name` are not understood", lines.get(path)))
    return None


def write(data: Mapping[str, Any], shape: Shape, comment: str = "") -> str:
    """Plain data as YAML text: keys in the shape's order, long texts as blocks, small objects on a line."""
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml import scalarstring as style
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def text(value: str) -> Any:
        if _BARE.fullmatch(value):
            return value
        if not _PLAIN.fullmatch(value):
            return style.DoubleQuotedScalarString(value)
        if "\n" not in value:
            return style.SingleQuotedScalarString(value)
        # A block gives back what it holds if it begins with something to see.
        blocky = "\n" in value.strip() and not value[0].isspace()
        return style.LiteralScalarString(value) if blocky else style.DoubleQuotedScalarString(value)

    def styled(value: Any, shape: Shape) -> Any:
        if isinstance(value, dict):
            keys = [*(key for key in shape if key in value), *(key for key in value if key not in shape)]
            made = CommentedMap((text(key), styled(value[key], shape.get(key) or {})) for key in keys)
            if _small(value):
                made.fa.set_flow_style()
            return made
        if isinstance(value, list):
            items = CommentedSeq(styled(item, shape) for item in value)
            if not any(isinstance(item, dict | list) for item in value):
                items.fa.set_flow_style()
            return items
        return text(value) if isinstance(value, str) else value

    yaml = YAML()
    yaml.width = 1_000_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    written = StringIO()
    root = styled(data, shape)
    root.fa.set_block_style()
    if comment:
        root.yaml_set_start_comment(comment)
    yaml.dump(root, written)
    return written.getvalue()


def _small(value: Mapping[str, Any]) -> bool:
    """Whether an object reads well on one line."""
    leaves = [item for found in value.values() for item in (found if isinstance(found, list) else [found])]
    if any(isinstance(leaf, dict | list) or (isinstance(leaf, str) and "\n" in leaf) for leaf in leaves):
        return False
    return sum(len(key) + len(str(item)) + 4 for key, item in value.items()) <= 100


def dotted(path: Path) -> str:
    """`models[0].key`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return text or "top level"


# --- environment variables ----------------------------------------------------------------------------


def replace(text: str, env: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with `${NAME}` replaced and `$${` as `${`, and the names that are not set; those stay."""
    if "${" not in text:
        return text, []
    unset: list[str] = []

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "${"
        if name not in env:
            unset.append(name)
        return env.get(name, found[0])

    return secret.VARIABLE.sub(value, text), unset
