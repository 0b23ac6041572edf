"""Checks of settings that are valid one by one but contradict each other."""

from __future__ import annotations

from typing import Any

from gateway.config.mail import mail_faults
from gateway.config.notifications import Notifications

#: Options of [transport] in pairs: a default, and the maximum that it must not exceed.
_DEFAULTS = (
    ("default_message_ttl", "max_message_ttl"),
    ("default_message_delay", "max_message_delay"),
    ("default_claim_ttl", "max_claim_ttl"),
    ("default_claim_grace", "max_claim_grace"),
)


def contradictions(conf: Any) -> list[str]:
    """All contradictions in the settings, one sentence each."""
    transport = conf.transport
    found = [
        f"[transport] {low} = {transport[low]} is above {high} = {transport[high]}"
        for low, high in _DEFAULTS if transport[low] > transport[high]
    ]
    if transport.default_message_delay >= transport.default_message_ttl:
        found.append(
            f"[transport] default_message_delay = {transport.default_message_delay} is not below default_message_ttl ="
            f" {transport.default_message_ttl}: messages would expire before anybody sees them"
        )
    if conf.min_length_client_id > conf.max_length_client_id:
        found.append(
            f"[DEFAULT] min_length_client_id = {conf.min_length_client_id} is above max_length_client_id ="
            f" {conf.max_length_client_id}"
        )
    if conf.notification.require_confirmation and not conf.signed_url.secret_key:
        found.append(
            "[notification] require_confirmation is on and [signed_url] secret_key is unset: nobody could confirm a"
            " subscription"
        )
    found += mail_faults(conf)
    if unknown := sorted(set(map(str.lower, conf.transport.subscriber_types)) - set(Notifications().subscriber_types)):
        found.append(f"[transport] subscriber_types: there is no way to deliver to {', '.join(unknown)}")
    return found


def check_settings(conf: Any) -> None:
    """Raises ValueError, which names all settings that contradict each other."""
    if found := contradictions(conf):
        raise ValueError("; ".join(found))
