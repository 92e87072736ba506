"""Triggers: a small query language over events, FQL (reference, section 4).

Triggers are read as the field's own engine reads them, so that one copied here selects the same events. Two of its
habits surprise: a group has one operator, the last that stands in it (`a or b and c` is `a and b and c`); and a
parenthesis closes at the first `)`, be it that of a function. `ambiguous` tells where that makes a difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from onefold import mapping
from onefold.errors import InvalidTrigger

EVENTS = ("new", "updated", "deleted")
Test = Callable[[Mapping[str, Any]], bool]

_GRAMMAR = r"""
    start: item (OPERATION item)*
    ?item: group | comparison | function
    group: "(" start ")"
    comparison: path OPERATOR value
    function: NOT* NAME "(" path "," STRING ")"
    path: PART ("." PART | BRACKET)*
    value: STRING | NUMBER | WORD
    OPERATION.3: /(and|or)(?![\w$.\[-])/
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">"
    NOT: "!"
    NAME.2: /(contains|match)(?=\s*\()/
    WORD.3: /(true|false|null)\b/
    BRACKET: /\[("([^"\\]|\\.)*"|'([^'\\]|\\.)*'|\d+)\]/
    PART: /[A-Za-z_$][\w$-]*/
    STRING: /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'/
    NUMBER: /-?\d+(\.\d+)?([eE][+-]?\d+)?/
    %ignore /\s+/
"""


class Trigger:
    """A parsed trigger: `matches` tells whether it selects an event."""

    def __init__(self, text: str, test: Test, paths: frozenset[tuple[str, ...]]) -> None:
        self.text = text
        self._test = test
        self._paths = paths

    def matches(self, event: Mapping[str, Any]) -> bool:
        return self._test(event)

    @property
    def depends_on_event_only(self) -> bool:
        """Whether the answer for a warehouse row follows from its `type` and `event` alone."""
        return all(path in (("type",), ("event",)) for path in self._paths)

    @property
    def ambiguous(self) -> bool:
        """Whether it would mean something else if `and` bound tighter and parentheses closed where they are."""
        return _ambiguous(_parse(self.text), nested=False)

    def events(self) -> frozenset[str]:
        """The events that a warehouse row could match as; empty means it can never match one.

        Comparisons of the row's columns, which nobody knows beforehand, are tried both ways.
        """
        unknown = sorted(self._tests_of_columns())
        return frozenset(event for event in EVENTS if self._possible(event, unknown))

    def _tests_of_columns(self) -> list[str]:
        return [key for key, path in _tests(self.text) if path[0] == "properties"]

    def _possible(self, event: str, unknown: list[str]) -> bool:
        row = {
            "type": "track",
            "event": event,
            "context": {},
            "properties": {},
            "messageId": "",
            "timestamp": "",
        }
        if not unknown:
            return self._test(row)
        if len(unknown) > 12:
            return True  # too many to try; only a trigger that surely never matches is refused
        tree = _parse(self.text)
        return any(
            _build(tree, dict(zip(unknown, answers, strict=True)))(row)
            for answers in product((True, False), repeat=len(unknown))
        )


def parse(text: str) -> Trigger:
    """Parse a trigger. Raises InvalidTrigger, which names the position and what was expected."""
    tree = _parse(text)
    return Trigger(text, _build(tree, {}), frozenset(path for _, path in _tests(text)))


@cache
def _parser() -> Any:
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr", lexer="contextual")


@cache
def _parse(text: str) -> Any:
    from lark.exceptions import UnexpectedInput

    if not text.strip():
        raise InvalidTrigger('the trigger is empty; write one such as event = "new"')
    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        at = error.pos_in_stream if error.pos_in_stream is not None else len(text)
        found = f"at character {at + 1}, near {text[at : at + 12]!r}" if 0 <= at < len(text) else "at its end"
        raise InvalidTrigger(
            f'the trigger {text!r} cannot be read {found}; a condition is PATH = VALUE, contains(PATH, "text")'
            ' or match(PATH, "pattern*"), joined by and, or and parentheses'
        ) from error


def _tests(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Each condition of a trigger: its text, and the path that it reads."""
    nodes = (node for node in _parse(text).iter_subtrees() if node.data in ("comparison", "function"))
    return [(_key(node), _path_of(next(node.find_data("path")))) for node in nodes]


def _key(node: Any) -> str:
    return str(node)


@dataclass(frozen=True)
class Group:
    """Conditions, or groups of them, under one operator."""

    operator: str
    items: tuple[Any, ...]


_CLOSE = object()


def _ambiguous(start: Any, *, nested: bool) -> bool:
    """Two operators side by side, or a function that is not the last inside a parenthesis."""
    operators = {str(child) for child in start.children if getattr(child, "type", "") == "OPERATION"}
    early = nested and any(getattr(child, "data", "") == "function" for child in start.children[:-1])
    groups = [child.children[0] for child in start.children if getattr(child, "data", "") == "group"]
    return len(operators) > 1 or early or any(_ambiguous(group, nested=True) for group in groups)


def _stream(start: Any) -> Iterator[Any]:
    """The conditions, operators and parentheses of a tree, in the order of the text."""
    for child in start.children:
        if getattr(child, "data", "") == "group":
            yield "("
            yield from _stream(child.children[0])
            yield _CLOSE
        elif getattr(child, "data", "") == "function":
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
        else:
            items.append(part)
    return items[0] if len(items) == 1 else Group(operator, tuple(items))


def _build(tree: Any, answers: Mapping[str, bool]) -> Test:
    """The test of a syntax tree; conditions in `answers` are given theirs."""
    return _test(_grouped(_stream(tree), nested=False), answers)


def _test(node: Any, answers: Mapping[str, bool]) -> Test:
    if isinstance(node, Group):
        tests = [_test(item, answers) for item in node.items]
        every = all if node.operator == "and" else any
        return lambda event: every(test(event) for test in tests)
    if _key(node) in answers:
        answer = answers[_key(node)]
        return lambda _: answer
    return _comparison(node) if node.data == "comparison" else _function(node)


def _path_of(tree: Any) -> tuple[str, ...]:
    keys = []
    for token in tree.children:
        inner = str(token)
        if token.type == "BRACKET":
            inner = inner[1:-1]
            inner = _unquoted(inner) if inner[0] in "'\"" else inner
        keys.append(inner)
    return tuple(keys)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _comparison(tree: Any) -> Test:
    path, operator, value = tree.children
    read = mapping.reader(_path_of(path))
    token = value.children[0]
    if token.type == "NUMBER":
        return _number(read, str(operator), float(token))
    wanted = {"true": True, "false": False, "null": None}[str(token)] if token.type == "WORD" else _unquoted(str(token))
    if operator not in ("=", "!="):
        return lambda _: False  # order is for numbers only
    equal = operator == "="
    if wanted is None:
        return lambda event: (read(event) in (mapping.UNDEFINED, None)) is equal

    if isinstance(wanted, bool) and not equal:
        return lambda _: True  # as in the field: `!=` says nothing about booleans

    def same(event: Mapping[str, Any]) -> bool:
        found = read(event)
        return (type(found) is type(wanted) and found == wanted) is equal

    return same


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
    if _path_of(path) == ("type",):
        return lambda _: False  # as in the field: functions are not for the type of a call
    if name == "contains":
        return lambda event: isinstance(found := read(event), str) and (wanted in found) is holds
    glob = re.compile(
        "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in wanted), re.DOTALL
    )
    return lambda event: isinstance(found := read(event), str) and (glob.fullmatch(found) is not None) is holds
