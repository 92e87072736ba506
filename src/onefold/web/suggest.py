"""Fields of a new mapping, suggested from the names of the columns."""

from __future__ import annotations

import re
from typing import Any

from onefold.config import Model
from onefold.segment_profiles import ACTIONS
from onefold.web.values import of_column

# Field -> the names of columns that mean it, the surest first.
NAMES = {
    "user_id": ("user_id", "userid", "customer_id", "shop_customer_id", "person_id", "member_id", "client_id"),
    "anonymous_id": ("anonymous_id", "anonymousid", "device_id", "cookie_id", "visitor_id"),
    "group_id": ("group_id", "account_id", "company_id", "organization_id", "household_id", "tenant_id"),
    "email": ("email", "email_address", "e_mail", "mail"),
    "phone": ("phone", "phone_number", "mobile", "msisdn"),
    "timestamp": (
        "updated_at",
        "modified_at",
        "changed_at",
        "ordered_at",
        "occurred_at",
        "event_time",
        "timestamp",
        "last_seen_at",
        "created_at",
    ),
    "email_subscription_status": ("email_optin", "email_opt_in", "email_status", "newsletter", "email_subscribed"),
    "sms_subscription_status": ("sms_optin", "sms_opt_in", "sms_status", "sms_subscribed"),
    "whatsapp_subscription_status": ("whatsapp_optin", "whatsapp_opt_in", "whatsapp_status"),
    "android_push_token": ("android_push_token", "android_token", "fcm_token"),
    "ios_push_token": ("ios_push_token", "ios_token", "apns_token"),
    "event_name": ("event_name", "event", "event_type"),
}


def suggest(action: str, columns: list[str], rows: list[dict[str, Any]], model: Model | None) -> dict[str, Any]:
    """Field -> value. Columns that no field means become traits or properties."""
    by_name = {re.sub(r"[^a-z0-9]+", "_", name.lower()): name for name in columns}
    found: dict[str, Any] = {}
    used: set[str] = set()
    for field in ACTIONS[action].fields:
        names = NAMES.get(field.key, ())
        if field.key == "user_id" and model is not None and action == "sendIdentify":
            names = (*names, "id", model.key)
        name = next((by_name[one] for one in names if one in by_name), None)
        if name is not None and name not in used:
            lower = field.key == "email"
            found[field.key] = of_column(name, lower=lower)
            used.add(name)
    if "event_name" not in found and action == "sendTrack":
        found["event_name"] = _event(model.slug if model else "event")
    rest = {name: of_column(name, lower=name.lower() == "email") for name in columns if name not in used}
    for key in ("traits", "properties"):
        if rest and action != "sendSubscription" and any(field.key == key for field in ACTIONS[action].fields):
            found[key] = rest
    return found


def _event(slug: str) -> str:
    """`orders` -> `Order Completed`, which is what most mean; else the words of the slug."""
    words = re.split(r"[-_]+", slug)
    known = {"orders": "Order Completed", "purchases": "Order Completed", "logins": "Signed In", "signups": "Signed Up"}
    return known.get(slug) or " ".join(word.capitalize() for word in words)
