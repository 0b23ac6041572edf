"""Settings that can't go together: each is possible by itself, and the service could not keep to both."""

from __future__ import annotations

from typing import Any

#: Options of [transport] that must not be above another one: what is used unless a request says otherwise, and the most
#: that a request may say.
_DEFAULTS = (
    ("default_message_ttl", "max_message_ttl"),
    ("default_message_delay", "max_message_delay"),
    ("default_claim_ttl", "max_claim_ttl"),
    ("default_claim_grace", "max_claim_grace"),
)


def contradictions(conf: Any) -> list[str]:
    """What is wrong with the settings, one sentence each."""
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
    return found


def check_settings(conf: Any) -> None:
    """Raises ValueError that names all settings that can't go together."""
    if found := contradictions(conf):
        raise ValueError("; ".join(found))
