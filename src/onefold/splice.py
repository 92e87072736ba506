"""Changing a YAML text where its data changes, and nowhere else: comments, order, quotes and layout stay.

Nodes know where they stand in the text; what differs is replaced there. An entry in `{…}` or `[…]` is written anew with
all that belongs to it.
"""

from __future__ import annotations

import json
from typing import Any

from onefold import document
from onefold.document import Shape

Edit = tuple[int, int, str]  # from, to, the text in between


def changed(text: str, old: dict[str, Any], new: dict[str, Any], shape: Shape) -> str:
    """The text with its data `old` changed into `new`; the caller parses it to see that it holds `new`.

    The root has a key that stays.
    """
    from ruamel.yaml import YAML

    root = YAML().compose(text)
    if root is None:
        return text.rstrip() + ("\n" if text.strip() else "") + document.write(new, shape)
    if root.flow_style:  # JSON
        return json.dumps(new, ensure_ascii=False, indent=2) + "\n"
    text += "" if text.endswith("\n") else "\n"
    splice = _Splice(text)
    splice.mapping(root, old, new, shape)
    for start, end, put in sorted(splice.edits, reverse=True):
        text = text[:start] + put + text[end:]
    return text


class _Splice:
    """Gathers the edits of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.edits: list[Edit] = []

    def mapping(self, node: Any, old: dict[str, Any], new: dict[str, Any], shape: Shape) -> None:
        """Change a mapping that has its keys on lines of their own."""
        entries = {key.value: (key, value) for key, value in node.value}
        column = node.value[0][0].start_mark.column
        kept = [name for name in entries if name in new]
        order = [*(name for name in shape if name in new), *(name for name in new if name not in shape)]
        for name in (name for name in order if name not in entries):
            before = [other for other in kept if other in order and order.index(other) < order.index(name)]
            after = self._line_end(self._entry_end(*entries[(before or kept)[-1]]))
            self.edits.append((after, after, "\n" + _entry(name, new[name], shape, column, indent=True)))
        for at, (name, (key, value)) in enumerate(entries.items()):
            below = shape.get(name) or {}
            if name not in new:
                following = node.value[at + 1][0] if at + 1 < len(node.value) else None
                self._remove(key, value, following)
            elif old[name] == new[name]:
                continue
            elif not self._inside(value, old[name], new[name], below):
                self._replace(key, value, _entry(name, new[name], shape, column))

    def _inside(self, node: Any, old: Any, new: Any, shape: Shape) -> bool:
        """Change what stands below a key, if that can be done piece by piece."""
        if not hasattr(node, "flow_style") or node.flow_style or not isinstance(node.value, list) or not node.value:
            return False
        if isinstance(old, dict) and isinstance(new, dict):
            if not old.keys() & new.keys():
                return False
            self.mapping(node, old, new, shape)
            return True
        return isinstance(old, list) and isinstance(new, list) and self._sequence(node, old, new, shape)

    def _sequence(self, node: Any, old: list[Any], new: list[Any], shape: Shape) -> bool:
        """Change a list of objects that have a slug or a type; new ones come last."""
        were, are = _names(old), _names(new)
        if were is None or are is None:
            return False
        kept = [name for name in were if name in are]
        if not kept or [*kept, *(name for name in are if name not in were)] != are:
            return False
        items = dict(zip(were, node.value, strict=True))
        for name, item, was in zip(were, node.value, old, strict=True):
            if name not in are:
                start, end = self._line_start(item.start_mark.index), self._line_end(self._end(item)) + 1
                self.edits.append((start, min(end, len(self._text)), ""))
            elif was != (now := new[are.index(name)]) and not self._inside(item, was, now, shape):
                column = item.start_mark.column
                self.edits.append((item.start_mark.index, self._end(item), _item(now, shape, column)[2:]))
        dash = self._text.rindex("-", self._line_start(node.value[0].start_mark.index), node.value[0].start_mark.index)
        column = dash - self._line_start(dash)
        last = self._line_end(self._end(items[kept[-1]]))
        added = [_item(new[are.index(name)], shape, column + 2) for name in are if name not in were]
        if added:
            self.edits.append((last, last, "".join(f"\n{' ' * column}{text}" for text in added)))
        return True

    def _replace(self, key: Any, value: Any, put: str) -> None:
        end = self._entry_end(key, value)
        if "\n" in put:  # a remark at the end of the line would become part of a block
            end = self._line_end(end)
        self.edits.append((key.start_mark.index, end, put))

    def _remove(self, key: Any, value: Any, following: Any) -> None:
        start = self._line_start(key.start_mark.index)
        if self._text[start : key.start_mark.index].strip():  # behind the dash of a list
            assert following is not None  # a slug is never removed
            self.edits.append((key.start_mark.index, following.start_mark.index, ""))
        else:
            end = min(self._line_end(self._entry_end(key, value)) + 1, len(self._text))
            self.edits.append((start, end, ""))

    def _end(self, node: Any) -> int:
        """Where the content of a node ends: before remarks and empty lines, which a block's own end includes."""
        if isinstance(node.value, list) and not node.flow_style and node.value:
            last = node.value[-1]
            return self._entry_end(*last) if isinstance(last, tuple) else self._end(last)
        start: int = node.start_mark.index
        return start + len(self._text[start : node.end_mark.index].rstrip())

    def _entry_end(self, key: Any, value: Any) -> int:
        """As `_end`; a value of nothing at all ends with the colon."""
        if value.start_mark.index == value.end_mark.index:
            return self._text.index(":", key.end_mark.index) + 1
        return self._end(value)

    def _line_start(self, index: int) -> int:
        return self._text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        found = self._text.find("\n", index)
        return len(self._text) if found < 0 else found


def _names(items: list[Any]) -> list[Any] | None:
    """What tells the objects of a list apart; None if nothing does."""
    names = [item.get("slug", item.get("type")) if isinstance(item, dict) else None for item in items]
    return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else None


def _entry(name: str, value: Any, shape: Shape, column: int, *, indent: bool = False) -> str:
    """`name: value` as it stands at a column, without the line break at its end."""
    written = document.write({name: value}, {name: shape.get(name) or {}}).removesuffix("\n")
    pad = " " * column
    return (pad if indent else "") + written.replace("\n", "\n" + pad)


def _item(value: Any, shape: Shape, column: int) -> str:
    """`- …` as it stands in a list whose objects begin at a column."""
    written = document.write({"x": [value]}, {"x": shape}).removesuffix("\n")
    lines = [line[2:] for line in written.splitlines()[1:]]
    return ("\n" + " " * (column - 2)).join(lines)
