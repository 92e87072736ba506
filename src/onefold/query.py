"""The SQL of a model: one query, as far as one sees without parsing it."""

from __future__ import annotations

import re

from onefold.report import Part

LENGTH = 65_535  # characters; reference, section 2

# What a semicolon may stand in without ending a statement: texts, quoted names, comments.
_OPAQUE = r"""[eE]'(?:[^'\\]|\\.|'')*'|'[^']*'|"[^"]*"|`[^`]*`|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$"""
_PIECE = re.compile(rf"({_OPAQUE})|(;)", re.DOTALL)
_BLANK = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_QUERIES = ("select", "with", "from", "values", "table", "pivot", "unpivot")


def read(part: Part, key: str) -> str:
    """The SQL of a model without its last semicolon; one query, as far as one sees without parsing it."""
    sql = part.text(key)
    if not sql.strip():
        return sql
    if len(sql) > LENGTH:
        part.refuse(key, f"SQL has at most {LENGTH:,} characters, this one {len(sql):,}")
    end = next((found.start() for found in _PIECE.finditer(sql) if found[3]), None)
    if end is not None and re.sub(r";", "", sql[end:]).strip() and _first(re.sub(r"^[;\s]+", "", sql[end:])):
        part.refuse(key, "a model is one SELECT; after the ';' there is more")
    query = sql[:end].rstrip()
    word = _first(query)
    if word.lower() not in _QUERIES:
        what = f"this begins with {word.upper()}" if word else "this is none"
        part.refuse(key, f"a model is one SELECT; {what}")
    return query


def _first(sql: str) -> str:
    """The first word of a statement, or its first character if that is none."""
    blank = _BLANK.match(sql)
    word = re.match(r"\w+|\S|", sql[blank.end() if blank else 0 :])
    return word[0] if word else ""
