"""Onefold turns the tables of a data warehouse into customer profiles.

`onefold.open(path)` opens a workspace folder: plan, apply, sync and read, as the command line does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onefold.workspace import Workspace, open  # noqa: A004 - onefold.open is the contract

__all__ = ["Workspace", "open"]


def __getattr__(name: str) -> Any:
    """Load the workspace only when it is asked for: the pure modules import fast without it."""
    if name in __all__:
        from onefold import workspace

        return getattr(workspace, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
