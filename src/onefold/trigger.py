"""Triggers: a small query language over events, FQL (reference, section 4).

Triggers are read as the field's own engine reads them, so that one copied here selects the same events. Three of its
habits surprise: a group has one operator, the last that stands in it (`a or b and c` is `a and b and c`); a parenthesis
closes at the first `)`, be it that of a function; and a function of `type` is passed over, as if it were not there.
`ambiguous` tells where that makes a difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from onefold import mapping
from onefold.errors import InvalidTrigger
from onefold.nearest import nearest

EVENTS = ("new", "updated", "deleted")
MAX_NESTING = 50  # parentheses inside parentheses
Test = Callable[[Mapping[str, Any]], bool]

# What a path begins with: the fields that a call can have.
ROOTS = (
    *("type", "event", "name", "userId", "properties", "traits", "context", "anonymousId", "groupId", "previousId"),
    *("messageId", "timestamp", "originalTimestamp", "sentAt", "receivedAt", "category", "channel", "version"),
    "integrations",
)
# What nobody knows of a warehouse row beforehand; the rest is the same for every row (reference, section 2).
_OF_THE_ROW = ("properties", "messageId", "timestamp")

_GRAMMAR = r"""
    start: item (OPERATION item)*
    ?item: group | comparison | function
    group: "(" start ")"
    comparison: path OPERATOR value
    function: NOT* NAME "(" path "," STRING ")"
    path: PART ("." KEY | BRACKET)*
    value: STRING | NUMBER | WORD
    OPERATION.3: /(and|or)(?![\w$.\[-])/
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">"
    NOT: "!"
    NAME.2: /(contains|match)(?=\s*\()/
    WORD.3: /(true|false|null)\b/
    BRACKET: /\[("([^"\\]|\\.)*"|'([^'\\]|\\.)*'|\d+)\]/
    PART: /[^\W\d][\w$-]*/
    KEY: /([\w$-]|\\.)+/
    STRING: /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'/
    NUMBER: /-?\d+(\.\d+)?([eE][+-]?\d+)?/
    %ignore /\s+/
"""


class Trigger:
    """A parsed trigger: `matches` tells whether it selects an event."""

    def __init__(self, text: str) -> None:
        tree = _parse(text)
        self.text = text
        self._tree = tree
        self._test = _build(tree)
        self._paths = {_path_of(path) for path in tree.find_data("path")}

    def matches(self, event: Mapping[str, Any]) -> bool:
        return self._test(event)

    @property
    def depends_on_event_only(self) -> bool:
        """Whether the answer for a warehouse row follows from its `type` and `event` alone."""
        return self._paths <= {("type",), ("event",)}

    @property
    def ambiguous(self) -> bool:
        """Whether one of the habits above makes it mean something else than it says."""
        return _ambiguous(self._tree, nested=False)

    def events(self) -> frozenset[str]:
        """The events that a warehouse row could match as; empty means it can never match one.

        What only the row can tell is taken to hold: `!` stands in single conditions alone, so no condition that
        holds can keep a row out.
        """
        possible = _build(self._tree, _OF_THE_ROW)
        row = {"type": "track", "properties": {}, "context": {}}
        return frozenset(event for event in EVENTS if possible({**row, "event": event}))


def parse(text: str) -> Trigger:
    """Parse a trigger. Raises InvalidTrigger, which names the position and what was expected."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidTrigger('the trigger is empty; write one such as event = "new"')
    return Trigger(text)


@cache
def _parser() -> Any:
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr", lexer="contextual")


class _Token(str):
    """A word of a trigger, as Lark's."""

    __slots__ = ("start_pos", "type")
    type: str
    start_pos: int


@dataclass(frozen=True)
class _Tree:
    """A rule of the grammar and what it stands for, as Lark's."""

    data: str
    children: tuple[Any, ...]

    def find_data(self, data: str) -> Iterator[_Tree]:
        if self.data == data:
            yield self
        for child in self.children:
            if isinstance(child, _Tree):
                yield from child.find_data(data)


_CONDITION = re.compile(
    r"""\s*(?P<PART>[^\W\d][\w$-]*)(?P<KEYS>(?:\.[\w$-]+)*)\s*(?P<OPERATOR>!?=)\s*(?P<STRING>"[^"\\]*"|'[^'\\]*')\s*"""
    r"""(?:\Z|(?P<OPERATION>and|or)(?![\w$.\[-]))"""
)


def _plain(text: str) -> _Tree | None:
    """The syntax tree of a trigger such as `event = "new" or event = "updated"`; None of any other.

    It is what Lark says, too; but most triggers are plain, and making Lark ready takes 70 ms of a command.
    """
    items: list[Any] = []
    at, operation = 0, True
    while operation:
        found = _CONDITION.match(text, at)
        if found is None:
            return None

        def token(kind: str, found: re.Match[str] = found) -> _Token:
            made = _Token(found[kind])
            made.type, made.start_pos = kind, found.start(kind)
            return made

        keys = []
        for key in found["KEYS"].split(".")[1:]:
            keys.append(_Token(key))
            keys[-1].type = "KEY"
        path = _Tree("path", (token("PART"), *keys))
        items.append(_Tree("comparison", (path, token("OPERATOR"), _Tree("value", (token("STRING"),)))))
        at, operation = found.end(), found["OPERATION"] is not None
        if operation:
            items.append(token("OPERATION"))
    return _Tree("start", tuple(items)) if at == len(text) else None


@lru_cache(1024)
def _parse(text: str) -> Any:
    """The syntax tree of a trigger. Raises InvalidTrigger."""
    tree = _plain(text) or _read(text)
    _check(tree, text)
    return tree


def _read(text: str) -> Any:
    from lark.exceptions import UnexpectedInput

    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        at = error.pos_in_stream if error.pos_in_stream is not None else len(text)
        ended = not 0 <= at < len(text.rstrip()) or getattr(error, "token", None) == ""
        place = "at its end" if ended else f"at character {at + 1}, near {text[at : at + 12]!r}"
        raise InvalidTrigger(f"the trigger {_short(text)} cannot be read {place}: {_expected(error)}") from error


# What may stand somewhere, by the first of these that the grammar allows there.
_EXPECTATIONS = {
    "OPERATOR": "an operator is expected, one of = != < <= > >=",
    "NUMBER": 'a value is expected: a "text" in quotes, a number, true, false or null',
    "STRING": 'a "text" in quotes is expected',
    "NAME": 'a condition is expected, such as event = "new" or contains(properties.plan, "pro")',
    "PART": "a path is expected, such as properties.plan",
    "KEY": "a key is expected; one with other characters is written as properties['its name']",
    "OPERATION": "and, or, or the end is expected",
    "COMMA": "a comma is expected",
}


def _expected(error: Any) -> str:
    allowed = getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", None)
    if not allowed and getattr(error, "token", None) == ")":
        return "there is no ( that it closes"
    if "RPAR" in (allowed or ()):
        return "a ) is missing" if getattr(error, "token", None) == "" else "and, or, or a ) is expected"
    found = next((said for name, said in _EXPECTATIONS.items() if name in (allowed or ())), None)
    return found or 'a condition is PATH = VALUE, contains(PATH, "text") or match(PATH, "pattern*")'


def _check(tree: Any, text: str) -> None:
    """Raise InvalidTrigger for what the grammar lets through: too many parentheses, and words that are no field."""
    level, depth = [tree], 0
    while level := [item.children[0] for start in level for item in start.children if _is(item, "group")]:
        depth += 1
        if depth > MAX_NESTING:
            raise InvalidTrigger(
                f"the trigger {_short(text)} has parentheses more than {MAX_NESTING} deep; write it with fewer"
            )
    for path in tree.find_data("path"):
        root = path.children[0]
        if root not in ROOTS:
            raise InvalidTrigger(
                f"the trigger {_short(text)} reads {str(root)!r} at character {root.start_pos + 1}, which no event"
                f" has; columns are written as properties.NAME{nearest(root, ROOTS)}"
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _is(node: Any, name: str) -> bool:
    return getattr(node, "data", "") == name


@dataclass(frozen=True)
class Group:
    """Conditions, or groups of them, under one operator."""

    operator: str
    items: tuple[Any, ...]


_CLOSE = object()


def _ambiguous(start: Any, *, nested: bool) -> bool:
    """Two operators side by side, a function that is not the last inside a parenthesis, or one of `type`."""
    operators = {str(child) for child in start.children if getattr(child, "type", "") == "OPERATION"}
    early = nested and any(_is(child, "function") for child in start.children[:-1])
    groups = [child.children[0] for child in start.children if _is(child, "group")]
    passed = any(map(_is_passed_over, start.children))
    return len(operators) > 1 or early or passed or any(_ambiguous(group, nested=True) for group in groups)


def _is_passed_over(node: Any) -> bool:
    """Whether it is a function of the type of a call."""
    return _is(node, "function") and _path_of(next(node.find_data("path")))[0] == "type"


def _stream(start: Any) -> Iterator[Any]:
    """The conditions, operators and parentheses of a tree, in the order of the text."""
    for child in start.children:
        if _is(child, "group"):
            yield "("
            yield from _stream(child.children[0])
            yield _CLOSE
        elif _is(child, "function"):
            yield child
            yield _CLOSE  # the one of the function's own parenthesis
        else:
            yield child


def _grouped(stream: Iterator[Any], *, nested: bool) -> Any:
    """Conditions as the field's engine groups them: see the module's first lines."""
    items: list[Any] = []
    operator = "and"
    for part in stream:
        if part is _CLOSE:
            if nested:
                break
        elif part == "(":
            items.append(_grouped(stream, nested=True))
        elif getattr(part, "type", "") == "OPERATION":
            operator = str(part)
        elif not _is_passed_over(part):
            items.append(part)
    if not items:
        return Group("or", ())  # it says nothing at all, and selects nothing
    return items[0] if len(items) == 1 else Group(operator, tuple(items))


def _build(tree: Any, unknown: tuple[str, ...] = ()) -> Test:
    """The test of a syntax tree; what is said about the roots in `unknown` is taken to hold."""
    return _test(_grouped(_stream(tree), nested=False), unknown)


def _test(node: Any, unknown: tuple[str, ...]) -> Test:
    if isinstance(node, Group):
        tests = [_test(item, unknown) for item in node.items]
        every = all if node.operator == "and" else any
        return lambda event: every(test(event) for test in tests)
    if _path_of(next(node.find_data("path")))[0] in unknown:
        return lambda _: True
    return _comparison(node) if node.data == "comparison" else _function(node)


def _path_of(tree: Any) -> tuple[str, ...]:
    keys = []
    for token in tree.children:
        inner = str(token)
        if token.type == "BRACKET":
            inner = inner[1:-1]
            inner = _unquoted(inner) if inner[0] in "'\"" else inner
        elif token.type == "KEY":
            inner = _unescaped(inner)  # the field's own editor writes `first\ name`
        keys.append(inner)
    return tuple(keys)


def _unquoted(text: str) -> str:
    return _unescaped(text[1:-1])


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _comparison(tree: Any) -> Test:
    path, operator, value = tree.children
    read = mapping.reader(_path_of(path))
    token = value.children[0]
    if token.type == "NUMBER":
        return _number(read, str(operator), _numeral(token))
    wanted = {"true": True, "false": False, "null": None}[str(token)] if token.type == "WORD" else _unquoted(str(token))
    if operator not in ("=", "!="):
        return lambda _: False  # order is for numbers only
    equal = operator == "="
    if wanted is None:
        return lambda event: (read(event) in (mapping.UNDEFINED, None)) is equal

    if isinstance(wanted, bool) and not equal:
        return lambda event: read(event) != str(token)  # as in the field: `!=` says nothing about booleans

    def same(event: Mapping[str, Any]) -> bool:
        found = read(event)
        return (type(found) is type(wanted) and found == wanted) is equal

    return same


def _numeral(text: str) -> float:
    """Whole numbers are exact: the keys of a warehouse can be larger than a double is precise."""
    try:
        return int(text)
    except ValueError:  # a fraction, an exponent, or thousands of digits
        return float(text)


_ORDER: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _number(read: Callable[[Mapping[str, Any]], Any], operator: str, wanted: float) -> Test:
    holds = _ORDER[operator]

    def compare(event: Mapping[str, Any]) -> bool:
        found = read(event)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return False
        return holds(found, wanted)

    return compare


def _function(tree: Any) -> Test:
    *negations, name, path, pattern = tree.children
    read, wanted = mapping.reader(_path_of(path)), _unquoted(str(pattern))
    holds = len(negations) % 2 == 0
    if name == "contains":
        return lambda event: isinstance(found := read(event), str) and (wanted in found) is holds
    glob = _glob(wanted)
    return lambda event: isinstance(found := read(event), str) and (glob.fullmatch(found) is not None) is holds


def _glob(pattern: str) -> re.Pattern[str]:
    """`*` as any text and `?` as any character; each piece is sought once (atomic), so no text makes it slow."""
    first, *rest = ["".join("." if c == "?" else re.escape(c) for c in piece) for piece in pattern.split("*")]
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle) + ".*" + last, re.DOTALL)
