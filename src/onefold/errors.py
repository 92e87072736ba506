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
    """A row or call that was refused; `fields` names what was wrong with it (reference, section 1).

    `call` is the call that the row became, as JSON, if it became one.
    """

    def __init__(self, code: str, message: str, fields: Sequence[str] = ()) -> None:
        super().__init__(message, code=code)
        self.fields = tuple(fields)
        self.call: str | None = None


class WarehouseError(OnefoldError):
    """A warehouse that cannot be read: unreachable, refused, or a query it does not understand."""

    code = "warehouse_error"


class TargetError(OnefoldError):
    """A target of Profiles Sync cannot be reached, read or written; its tables are as they were."""

    code = "target_error"


class StoreError(OnefoldError):
    """A space or the catalog cannot be read or written; what was not committed is not there."""

    code = "store_error"


class ValueRefused(StoreError):
    """The database cannot hold a value: too long for an index, or of a kind it does not take."""

    code = "value_refused"


class EndpointError(OnefoldError):
    """A remote endpoint that takes no calls from us now; what it has acknowledged is recorded, the rest waits."""

    code = "endpoint_error"


class NotFound(OnefoldError):
    """The thing asked for does not exist; the sentence lists what does."""

    code = "not_found"


class Disabled(OnefoldError):
    """What was to be started is switched off, or of another kind; the sentence says where."""

    code = "disabled"


class SyncStopped(OnefoldError):
    """A run that stopped itself; what its committed chunks did stays, the rest waits."""

    code = "sync_stopped"


class NotRunning(OnefoldError):
    """A run that was to be cancelled is over."""

    code = "not_running"


class Cancelled(OnefoldError):
    """A run that somebody stopped; `code` is `stopped` where its process was told to end."""

    code = "cancelled"
    STAYS = "what was committed stays, and the next sync goes on with the rest"
    AGAIN = "what was committed stays; run it again for the rest"  # of a resend or a replay


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


# What to do about a rejected row or call, by its code.
REMEDIES = {
    "null_key": "give the row a key in the model's SQL, or leave it out there",
    "repeated_key": "choose a key that is unique, or make the SQL return one row a key",
    "value_too_large": "shorten the column in the SQL, or leave it out",
    "record_too_large": "select only the columns that are mapped",
    "missing_user_or_anonymous_id": "map user_id or anonymous_id to a filled column, or leave such rows out",
    "invalid_field": "mend the value in the warehouse, or map the named field to something of its type",
    "missing_channel_address": "map email, phone or a push token to a column that is filled",
    "missing_subscription_status": "map the status of at least one channel",
    "missing_email": "map email where email_subscription_status is mapped",
    "missing_phone": "map phone where an SMS or WhatsApp status is mapped",
    "missing_android_push_token": "map android_push_token where its status is mapped",
    "missing_ios_push_token": "map ios_push_token where its status is mapped",
    "missing_email_status_for_groups": "map email_subscription_status where subscription_groups are mapped",
    "invalid_subscription_status": "turn the value into subscribed, unsubscribed or did_not_subscribe",
    "too_many_traits": "map fewer traits or properties; 300 are accepted",
    "message_id_too_long": "do not map message_id, or to something shorter",
    "group_id_too_long": "map group_id to something of at most 500 characters",
    "missing_group_id": "map group_id to a column that is never empty",
    "call_too_large": "map fewer or shorter traits; a call has at most 32 KB",
    "refused": "see what the endpoint says; the row is sent again when it or the mapping changes",
    "not_delivered": "nothing: the next runs try again; `onefold runs resend RUN` does it at once",
    "given_up": "when the endpoint is well again, `onefold runs resend RUN --code given_up` sends these rows",
}
