"""What can go wrong, each with a stable code and one sentence that says what, where and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


class OnefoldError(Exception):
    """Any failure a user is told of: `str()` is the sentence, `code` is stable across releases."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


@dataclass(frozen=True)
class Problem:
    """One mistake in a workspace file: `path` is dotted (`models[0].key`), `line` counts from 1."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}"


class InvalidWorkspace(OnefoldError):
    """The workspace file cannot be used; `problems` lists every mistake found, in file order."""

    code = "invalid_workspace"

    def __init__(self, problems: Sequence[Problem], file: str = "onefold.yaml") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{file}: {problem}" for problem in self.problems))


class InvalidObject(InvalidWorkspace):
    """What was to be saved cannot be; `fields`: dotted path in the object -> sentences, '' for the object itself."""

    code = "invalid_object"

    def __init__(self, problems: Sequence[Problem], fields: dict[str, list[str]]) -> None:
        super().__init__(problems)
        self.fields = fields
        said = [f"{path}: {sentence}" if path else sentence for path, told in fields.items() for sentence in told]
        self.args = ("\n".join(said),)


class Conflict(OnefoldError):
    """What was to be changed is not as it was when it was read; the sentence says what to do."""

    code = "conflict"


class InvalidMapping(OnefoldError):
    """A mapping that can never be right, or a value that a directive cannot take."""

    code = "invalid_mapping"


class InvalidTrigger(OnefoldError):
    """A trigger that is not FQL, or that can never match."""

    code = "invalid_trigger"


class RowRejected(OnefoldError):
    """A row or call that was refused; `fields` names what was wrong with it (reference, section 1)."""

    def __init__(self, code: str, message: str, fields: Sequence[str] = ()) -> None:
        super().__init__(message, code=code)
        self.fields = tuple(fields)


class WarehouseError(OnefoldError):
    """A warehouse that cannot be read: unreachable, refused, or a query it does not understand."""

    code = "warehouse_error"


class StoreError(OnefoldError):
    """A space or the catalog cannot be read or written; what was not committed is not there."""

    code = "store_error"


class NotFound(OnefoldError):
    """The thing asked for does not exist; the sentence lists what does."""

    code = "not_found"


class Disabled(OnefoldError):
    """What was to be started is switched off; the sentence says where."""

    code = "disabled"


class SyncStopped(OnefoldError):
    """A run that stopped itself; what its committed chunks did stays, the rest waits."""

    code = "sync_stopped"


class Forbidden(OnefoldError):
    """Who asks may not do that; the sentence names the role that may."""

    code = "forbidden"


class LoginFailed(OnefoldError):
    """No user has that name and password."""

    code = "login_failed"


class TooManyAttempts(OnefoldError):
    """Too many wrong passwords, of this user or from this address; `seconds` to wait."""

    code = "too_many_attempts"

    def __init__(self, seconds: float) -> None:
        self.seconds = ceil(seconds)
        super().__init__(f"too many wrong passwords; wait {self.seconds} s and try again")
