"""Channel subscriptions: what a call says about an address, and what holds now.

A statement is about an address (an email, a phone, a push token), not about a profile: it is kept with its
time and call, and the newest by (timestamp, arrival) holds (reference, section 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

# `list` is '' for the channel itself, else the name of an e-mail group.
SUBSCRIPTION = pa.struct(
    [("channel", pa.string()), ("address", pa.string()), ("list", pa.string()), ("status", pa.string())]
)

# Channel -> the identifier type that carries its address (reference, section 1).
ADDRESSES = {
    "EMAIL": "email",
    "SMS": "phone",
    "WHATSAPP": "phone",
    "ANDROID_PUSH": "android.push_token",
    "IOS_PUSH": "ios.push_token",
}
STATUSES = ("SUBSCRIBED", "UNSUBSCRIBED", "DID_NOT_SUBSCRIBE")


def statements(message: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a call says in `context.messaging_subscriptions`, one item a channel or e-mail group."""
    context = message.get("context")
    said = context.get("messaging_subscriptions") if isinstance(context, dict) else None
    found = []
    for item in said if isinstance(said, list) else []:
        if not isinstance(item, dict) or str(item.get("type")) not in ADDRESSES or not item.get("key"):
            continue
        about = {"channel": item["type"], "address": str(item["key"])}
        if item.get("status") in STATUSES:
            found.append({**about, "list": "", "status": item["status"]})
        if item["type"] != "EMAIL":
            continue
        groups = item.get("groups")
        found += [
            {**about, "list": str(group["name"]), "status": group["status"]}
            for group in (groups if isinstance(groups, list) else ())
            if isinstance(group, dict) and group.get("name") and group.get("status") in STATUSES
        ]
    return found


def current(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What holds now, from rows of (channel, address, list, status, time, seq): one item a channel and address.

    Returns `{"type", "key", "status", "groups": [{"name", "status"}]}` with the words of the wire format;
    a channel known only by its groups has the status None.
    """
    newest: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in sorted(history, key=lambda row: (row["time"], row["seq"])):
        newest[row["channel"], row["address"], row["list"]] = row
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for (channel, address, name), row in sorted(newest.items()):
        item = found.setdefault((channel, address), {"type": channel, "key": address, "status": None})
        if name:
            item.setdefault("groups", []).append({"name": name, "status": row["status"]})
        else:
            item["status"] = row["status"]
    return list(found.values())
