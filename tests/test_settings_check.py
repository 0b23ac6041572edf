"""Settings that can't go together are refused by `marconi check`, `serve` and gateway.wsgi."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.app import make_core
from gateway.commands.serve import serve
from gateway.config.consistency import check_settings, contradictions

Configured = Callable[..., Any]

CONTRADICTIONS: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "ttl": ({"transport": {"default_message_ttl": 7200, "max_message_ttl": 3600}}, "default_message_ttl = 7200"),
    "ttl, by the default": ({"transport": {"max_message_ttl": 600}}, "max_message_ttl = 600"),
    "delay": ({"transport": {"default_message_delay": 901}}, "default_message_delay = 901 is above max_message_delay"),
    "no delay": ({"transport": {"default_message_delay": 1, "max_message_delay": 0}}, "max_message_delay = 0"),
    "claim": ({"transport": {"max_claim_ttl": 299}}, "default_claim_ttl = 300 is above max_claim_ttl = 299"),
    "grace": ({"transport": {"default_claim_grace": 50_000}}, "default_claim_grace = 50000 is above max_claim_grace"),
    "delay beyond the ttl": (
        {"transport": {"default_message_delay": 600, "default_message_ttl": 600}}, "expire before anybody sees them",
    ),
    "lengths": (
        {"DEFAULT": {"min_length_client_id": 20, "max_length_client_id": 10}}, "min_length_client_id = 20 is above",
    ),
}


@pytest.mark.parametrize(("sections", "text"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_refused_by_all_who_start(
    configured: Configured, sections: dict[str, dict[str, Any]], text: str
) -> None:
    conf = configured(**sections)
    for start in (check_settings, make_core, serve):
        with pytest.raises(ValueError) as refused:
            start(conf)
        assert text in str(refused.value)


def test_all_of_them_are_named(configured: Configured) -> None:
    assert len(contradictions(configured(
        transport={"max_message_ttl": 60, "max_claim_ttl": 60, "max_message_delay": 0, "default_message_delay": 1}
    ))) == 3


@pytest.mark.parametrize("sections", [
    {},
    {"transport": {"default_message_ttl": 60, "max_message_ttl": 60}},
    {"transport": {"default_message_delay": 900}},
    {"DEFAULT": {"min_length_client_id": 20, "max_length_client_id": 20}},
    # The one is for what gateways post, the other for what native producers send.
    {"transport": {"max_messages_post_size": 2_000_000}, "bridging": {"max_body": 1024}},
])
def test_what_goes_together_is_fine(configured: Configured, sections: dict[str, dict[str, Any]]) -> None:
    check_settings(configured(**sections))
