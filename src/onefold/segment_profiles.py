"""The destination "Segment Profiles": its four actions, their fields, and the calls they make (reference, section 1).

One table, ACTIONS, drives validation, `mapping test`, forms and docs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onefold import canonical, mapping, times
from onefold.errors import InvalidMapping, RowRejected
from onefold.nearest import nearest

# What a mapping over a model selects unless it says otherwise.
RECORDS_TRIGGER = 'event = "new" or event = "updated"'


@dataclass(frozen=True)
class Field:
    """A field of an action: `type` is string, object or datetime; `default` a mapping where none is given."""

    key: str
    label: str
    description: str
    type: str = "string"
    required: bool = False
    default: Any = None
    hidden: bool = False


@dataclass(frozen=True)
class Action:
    """One of the destination's actions; `trigger` is the default for live sources."""

    key: str
    title: str
    description: str
    trigger: str | None
    fields: tuple[Field, ...]


_SPACE = Field("engage_space", "Profile Space", "The profile source through which calls enter a space.", required=True)
_USER = Field("user_id", "User ID", "The id of the user in your own systems.")
_ANONYMOUS = Field("anonymous_id", "Anonymous ID", "An id for somebody whose user id is not known.")
_GROUP = Field("group_id", "Group ID", "The account or group that the user belongs to.")
_TRAITS = Field("traits", "Traits", "What is known of the user or account, by name.", "object")
_TIMESTAMP = Field("timestamp", "Timestamp", "When it was so.", "datetime", default={"@path": "$.timestamp"})
_HIDDEN = (
    Field("message_id", "Message ID", "The id of the call.", default={"@path": "$.messageId"}, hidden=True),
    Field(
        "consent",
        "Consent",
        "Consent categories.",
        "any",
        default={"@path": "$.context.consent"},
        hidden=True,
    ),
)


@dataclass(frozen=True)
class Channel:
    """A channel of subscriptions: its address and status fields, and the codes of what can be missing."""

    type: str
    address: str
    status: str
    identifier: str
    missing: str


CHANNELS = (
    Channel("EMAIL", "email", "email_subscription_status", "email", "missing_email"),
    Channel("SMS", "phone", "sms_subscription_status", "phone", "missing_phone"),
    Channel("WHATSAPP", "phone", "whatsapp_subscription_status", "phone", "missing_phone"),
    Channel(
        "ANDROID_PUSH", "android_push_token", "android_push_subscription_status", "android.push_token",
        "missing_android_push_token",
    ),
    Channel(
        "IOS_PUSH", "ios_push_token", "ios_push_subscription_status", "ios.push_token", "missing_ios_push_token"
    ),
)  # fmt: skip
_SAID = "subscribed, unsubscribed or did_not_subscribe; true and false are the first two."

ACTIONS: dict[str, Action] = {
    action.key: action
    for action in (
        Action(
            "sendIdentify",
            "Send Identify",
            "Says who a user is, and what is known of them.",
            'type = "identify"',
            (_SPACE, _USER, _ANONYMOUS, _GROUP, _TRAITS, _TIMESTAMP, *_HIDDEN),
        ),
        Action(
            "sendGroup",
            "Send Group",
            "Describes an account, and says that a user belongs to it.",
            'type = "group"',
            (
                _SPACE, _USER, _ANONYMOUS,
                Field("group_id", "Group ID", "The account that is described.", required=True),
                _TRAITS, _TIMESTAMP, *_HIDDEN,
            ),
        ),
        Action(
            "sendTrack",
            "Send Track",
            "Says that a user did something.",
            None,
            (
                _SPACE, _USER, _ANONYMOUS, _TIMESTAMP,
                Field("event_name", "Event Name", "What was done.", required=True),
                _GROUP,
                Field("properties", "Properties", "What else is known of the event, by name.", "object"),
                *_HIDDEN,
            ),
        ),
        Action(
            "sendSubscription",
            "Send Subscriptions",
            "Says on which channels a person may be written to.",
            'type = "identify"',
            (
                _SPACE, _USER, _ANONYMOUS,
                Field("email", "Email", "The e-mail address that the status is about."),
                Field("email_subscription_status", "Email Subscription Status", f"For e-mail: {_SAID}"),
                Field("subscription_groups", "Email Subscription Groups", "Groups by name, each with a status.",
                      "object"),
                Field("phone", "Phone", "The number that SMS and WhatsApp statuses are about."),
                Field("sms_subscription_status", "SMS Subscription Status", f"For SMS: {_SAID}"),
                Field("whatsapp_subscription_status", "WhatsApp Subscription Status", f"For WhatsApp: {_SAID}"),
                Field("android_push_token", "Android Push Token", "The token of the Android device."),
                Field("android_push_subscription_status", "Android Push Subscription Status", f"For it: {_SAID}"),
                Field("ios_push_token", "iOS Push Token", "The token of the iOS device."),
                Field("ios_push_subscription_status", "iOS Push Subscription Status", f"For it: {_SAID}"),
                _TRAITS, _TIMESTAMP, *_HIDDEN,
            ),
        ),
    )
}  # fmt: skip


def validate(action: str, fields: Mapping[str, Any]) -> None:
    """Raise InvalidMapping if the fields of an action can never be right."""
    known = {field.key: field for field in _action(action).fields}
    if not isinstance(fields, Mapping):
        raise InvalidMapping(f"the fields of {action} must be an object, each name with its mapping")
    for key, value in fields.items():
        if key not in known:
            raise InvalidMapping(f"{action} has no field {key!r}{nearest(key, known)}")
        mapping.validate(value, f"field {key}")
    for key, field in known.items():
        if field.required and fields.get(key) in (None, ""):
            raise InvalidMapping(f"{action} needs the field {key!r} ({field.label})")
    if not isinstance(fields["engage_space"], str):
        # The state of a sync commits with its space, so one mapping writes to one space (design, section 2).
        raise InvalidMapping("engage_space must be the slug or write key of a profile source, the same for every row")


def _action(key: str) -> Action:
    if key not in ACTIONS:
        raise InvalidMapping(f"unknown action {key!r}{nearest(key, ACTIONS)}; there are {', '.join(ACTIONS)}")
    return ACTIONS[key]


def calls(action: str, fields: Mapping[str, Any], event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls of an action for one event. Raises RowRejected, InvalidMapping."""
    return compile(action, fields)(event)


def compile(  # noqa: A001 - said as segment_profiles.compile
    action: str, fields: Mapping[str, Any]
) -> Callable[[Mapping[str, Any]], list[dict[str, Any]]]:
    """`calls` for many events: the fields are compiled once; those not given take their defaults."""
    known = _action(action).fields
    given = {field.key: field.default for field in known if field.default is not None} | dict(fields)
    resolvers = {key: mapping.compile(value) for key, value in given.items()}
    make = _MAKERS[action]

    def made(event: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [make(checked(known, _resolved(resolvers, event)))]

    return made


def _resolved(resolvers: Mapping[str, mapping.Resolver], event: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each field. Raises InvalidMapping, RowRejected."""
    found = {}
    for key, resolver in resolvers.items():
        try:
            found[key] = resolver(event)
        except InvalidMapping as error:
            raise InvalidMapping(f"field {key}: {error}") from error
        except RecursionError as error:
            raise RowRejected("invalid_field", f"{key} is nested too deeply to be mapped", [key]) from error
    return found


def checked(fields: tuple[Field, ...], found: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the fields that are there, each of its type. Raises RowRejected invalid_field."""
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for field in fields:
        value = found.get(field.key)
        if field.type in ("string", "datetime") and isinstance(value, list) and len(value) == 1:
            value = value[0]  # as in the field: a list of one text is that text
        if value is None or value is mapping.UNDEFINED or value == "":
            if field.required:
                wrong[field.key] = f"{field.key} is required and has no value"
            continue
        try:
            value = _TYPES[field.type](value)
        except canonical.InvalidValue as error:
            wrong[field.key] = f"{field.key} cannot be sent: {error}"
            continue
        if value is None:
            wrong[field.key] = f"{field.key} is {_short(found[field.key])}; {_ACCEPTED[field.type]}"
        else:
            values[field.key] = value
    if wrong:
        raise RowRejected("invalid_field", "; ".join(wrong.values()), sorted(wrong))
    return values


def _string(value: Any) -> str | None:
    return None if isinstance(value, dict | list) else canonical.text(_carried(value))


def _object(value: Any) -> dict[str, Any] | None:
    return _carried(value) if isinstance(value, dict) else None


def _carried(value: Any) -> Any:
    """The value, if a call can carry it. Raises InvalidValue."""
    try:
        canonical.encode(value)
    except RecursionError as error:
        raise canonical.InvalidValue("it is nested too deeply") from error
    return value


def _datetime(value: Any) -> Any:
    return None if times.parse(value) is None else value


_TYPES: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "object": _object,
    "datetime": _datetime,
    "any": lambda value: _carried(value) if _is_consent(value) else {},
}
_ACCEPTED = {
    "string": "a text, number or boolean is accepted",
    "object": "an object is accepted",
    "datetime": "ISO 8601 text, a date or epoch milliseconds are accepted",
}


_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    bool: "the boolean",
    int: "the number",
    float: "the number",
}


def _short(value: Any) -> str:
    """A value inside a sentence: its kind, unless it is a text, and as much of it as fits."""
    try:
        text = repr(value) if isinstance(value, str) else f"{_KINDS.get(type(value), 'the value')} {_plain(value)}"
    except (ValueError, RecursionError):
        text = _KINDS.get(type(value), "a value")
    return text if len(text) <= 60 else text[:59] + "…"


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, float) else canonical.encode(value)


# --- the calls ----------------------------------------------------------------------------------------


def _who(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: values[key] for key, name in (("user_id", "userId"), ("anonymous_id", "anonymousId")) if key in values
    }


def _must_be_somebody(values: Mapping[str, Any]) -> None:
    if "user_id" not in values and "anonymous_id" not in values:
        raise RowRejected(
            "missing_user_or_anonymous_id", "the row has neither a user id nor an anonymous id; one is needed"
        )


def _said(call: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The call with its message id and time, where it has them."""
    for key, name in (("message_id", "messageId"), ("timestamp", "timestamp")):
        if key in values:
            call[name] = values[key]
    return call


def _is_consent(value: Any) -> bool:
    """Whether it has the one shape that means something."""
    preferences = value.get("categoryPreferences") if isinstance(value, dict) else None
    return isinstance(preferences, dict) and all(isinstance(item, bool) for item in preferences.values())


def _described(kind: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def make(values: dict[str, Any]) -> dict[str, Any]:
        _must_be_somebody(values)
        call = _who(values)
        if "group_id" in values:
            call["groupId"] = values["group_id"]
        call["traits"] = values.get("traits", {})
        return _said({**call, "type": kind, "context": {"consent": values.get("consent", {})}}, values)

    return make


def _track(values: dict[str, Any]) -> dict[str, Any]:
    _must_be_somebody(values)
    context = {"consent": values.get("consent", {})}
    if "group_id" in values:
        context["groupId"] = values["group_id"]
    call = {
        **_who(values),
        "event": values["event_name"],
        "properties": values.get("properties", {}),
        "context": context,
        "type": "track",
    }
    return _said(call, values)


def _subscription(values: dict[str, Any]) -> dict[str, Any]:
    _check_addresses(values)
    said = []
    for channel in CHANNELS:
        status = _status(values.get(channel.status), channel.status)
        if status is None:
            continue
        item: dict[str, Any] = {"key": values[channel.address], "type": channel.type, "status": status}
        if channel.type == "EMAIL":
            groups = _groups(values.get("subscription_groups", {}))
            if groups:
                item["groups"] = groups
        said.append(item)
    addresses = {channel.identifier: values[channel.address] for channel in CHANNELS if channel.address in values}
    call = {
        **_who(values),
        "traits": values.get("traits", {}),
        "context": {
            "messaging_subscriptions": said,
            "externalIds": [
                {"id": address, "type": kind, "collection": "users", "encoding": "none"}
                for kind, address in addresses.items()
            ],
            "messaging_subscriptions_retl": True,
            "consent": values.get("consent", {}),
        },
        "type": "identify",
    }
    return _said(call, values)


def _check_addresses(values: Mapping[str, Any]) -> None:
    """In the order of reference section 1. Raises RowRejected."""
    if not any(channel.address in values for channel in CHANNELS):
        raise RowRejected(
            "missing_channel_address",
            "the row has no email, phone or push token that a status could be about",
        )
    if not any(channel.status in values for channel in CHANNELS):
        raise RowRejected("missing_subscription_status", "the row has addresses but no subscription status")
    for channel in CHANNELS:
        if channel.status in values and channel.address not in values:
            raise RowRejected(
                channel.missing, f"{channel.status} is given, but {channel.address} is not", [channel.address]
            )
        if channel.type == "EMAIL" and values.get("subscription_groups") and channel.status not in values:
            raise RowRejected(
                "missing_email_status_for_groups",
                "subscription_groups are given, but email_subscription_status is not",
                [channel.status],
            )


_WORDS = {
    "true": "SUBSCRIBED",
    "subscribed": "SUBSCRIBED",
    "false": "UNSUBSCRIBED",
    "unsubscribed": "UNSUBSCRIBED",
    "did_not_subscribe": "DID_NOT_SUBSCRIBE",
    "did-not-subscribe": "DID_NOT_SUBSCRIBE",
}


def _status(value: Any, where: str) -> str | None:
    """The status that a word means; None for no statement. Raises RowRejected."""
    text = canonical.text(value)
    if value is None or text == "":
        return None
    word = _WORDS.get((text or "").strip().lower())
    if word is None:
        raise RowRejected(
            "invalid_subscription_status",
            f"{where} is {_short(value)}; use true, false, subscribed, unsubscribed or did_not_subscribe",
            [where.split(" ")[0]],
        )
    return word


def _groups(groups: Mapping[str, Any]) -> list[dict[str, str]]:
    found = []
    for name, value in groups.items():
        status = _status(value, f"subscription_groups {_short(name)}")
        found.append({"name": name} if status is None else {"name": name, "status": status})
    return found


_MAKERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "sendIdentify": _described("identify"),
    "sendGroup": _described("group"),
    "sendTrack": _track,
    "sendSubscription": _subscription,
}
