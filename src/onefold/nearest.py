"""Did you mean? The thing with a slug, or a sentence with the nearest there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from onefold.errors import NotFound


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing when no word is near."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(words), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def pick(items: Sequence[Any], slug: str, kind: str) -> Any:
    """The item with a slug. Raises NotFound, which names the nearest and all there are."""
    for item in items:
        if item.slug == slug:
            return item
    slugs = [item.slug for item in items]
    hint = nearest(slug, slugs)
    listed = f"there are {', '.join(slugs)}" if slugs else f"the workspace has no {kind}"
    raise NotFound(f"no {kind} {slug!r}{hint}; {listed}")
