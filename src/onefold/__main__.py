"""`python -m onefold`: the command, for processes that start another."""

from __future__ import annotations

from onefold.cli import main

main()
