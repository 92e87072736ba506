"""The SQL of a model: one query, as far as one sees without parsing it."""

from __future__ import annotations

import re

from onefold.report import Part

LENGTH = 65_535  # characters; reference, section 2
BEGINNINGS = ("select", "with", "from", "values", "table", "pivot", "unpivot")

_COMMENT = r"--[^\n]*|/\*.*?\*/"
# A semicolon, or what one may stand in without ending a statement: texts, quoted names and comments.
_PIECE = re.compile(
    rf"""\b[eE]'(?:[^'\\]|\\.|'')*'|'[^']*'|"[^"]*"|`[^`]*`|{_COMMENT}|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"""
    r"|(?P<end>;)",
    re.DOTALL,
)
_WORD = re.compile(rf"(?:[\s(]|{_COMMENT})*(\w+|\S|)", re.DOTALL)
_REST = re.compile(rf"(?:[\s;]|{_COMMENT})*\Z", re.DOTALL)


def read(part: Part, key: str) -> str:
    """The query below a key, without its last semicolon and what follows it."""
    sql = part.text(key)
    if not sql.strip():
        return sql
    if len(sql) > LENGTH:
        part.refuse(key, f"SQL has at most {LENGTH:,} characters, this one {len(sql):,}")
    end = next((found.start() for found in _PIECE.finditer(sql) if found["end"]), len(sql))
    if not _REST.match(sql, end):
        part.refuse(key, "a model is one SELECT; after the ';' there is more")
    query = sql[:end].rstrip()
    begun = _WORD.match(query)
    word = begun[1] if begun else ""
    if word.lower() not in BEGINNINGS:
        what = f"this one begins with {word.upper()}" if word else "this one is empty"
        part.refuse(key, f"a model is one SELECT; {what}")
    return query
