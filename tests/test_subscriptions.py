"""Subscriptions: statements about addresses, the newest holds."""

from __future__ import annotations

from typing import Any

from onefold import subscriptions


def said(status: str, time: int, seq: int, name: str = "") -> dict[str, Any]:
    return {"channel": "EMAIL", "address": "e@x", "list": name, "time": time, "seq": seq, "status": status}


def test_a_call_states_the_channel_and_each_of_its_groups() -> None:
    message = {
        "context": {
            "messaging_subscriptions": [
                {
                    "key": "e@x",
                    "type": "EMAIL",
                    "status": "SUBSCRIBED",
                    "groups": [{"name": "news", "status": "UNSUBSCRIBED"}],
                }
            ]
        }
    }
    assert subscriptions.statements(message) == [
        {"channel": "EMAIL", "address": "e@x", "list": "", "status": "SUBSCRIBED"},
        {"channel": "EMAIL", "address": "e@x", "list": "news", "status": "UNSUBSCRIBED"},
    ]


def test_the_newest_statement_holds_whatever_order_it_came_in() -> None:
    history = [said("UNSUBSCRIBED", 9, 1), said("SUBSCRIBED", 3, 2), said("SUBSCRIBED", 5, 3, "news")]
    assert subscriptions.current(history) == [
        {
            "type": "EMAIL",
            "key": "e@x",
            "status": "UNSUBSCRIBED",
            "groups": [{"name": "news", "status": "SUBSCRIBED"}],
        }
    ]


def test_a_message_of_any_shape_states_nothing_that_it_does_not_say() -> None:
    for odd in ({}, {"context": None}, {"context": {"messaging_subscriptions": [None, {"type": "FAX"}]}}):
        assert subscriptions.statements(odd) == []
