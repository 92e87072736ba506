"""How often Python looks for garbage in cycles."""

from __future__ import annotations

import atexit
import gc


def seldom() -> None:
    """For a whole process: a batch makes hundreds of thousands of objects, hardly any in cycles.

    Looking for those as often as Python does takes a fifth of the time of applying a batch. Loading the modules makes
    125,000, all of which stay; looking through these when the process ends takes a tenth of a second.
    """
    gc.freeze()
    gc.set_threshold(250_000, 20, 100)
    atexit.register(gc.freeze)
