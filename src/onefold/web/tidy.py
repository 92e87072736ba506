"""SQL laid out for reading."""

from __future__ import annotations

from typing import Any


def tidy(sql: str) -> str:
    """A query with a clause and a column a line. Only what is between its words changes; else it is left as it is."""
    import sqlparse
    from sqlparse.exceptions import SQLParseError

    try:
        found: str = sqlparse.format(sql, reindent=True, indent_columns=True).strip()
    except SQLParseError:
        return sql
    return found if _words(found) == _words(sql) else sql


def _words(sql: str) -> list[str]:
    import sqlparse

    statements: Any = sqlparse.parse(sql)  # which has no types
    tokens = (token for statement in statements for token in statement.flatten())
    return [token.value.strip() for token in tokens if not token.is_whitespace]
