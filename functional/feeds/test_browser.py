"""A browser follows a queue with docs/examples/feed.html, from another origin, by a URL that was shared."""

from urllib.parse import quote

from functional.api.helpers import post, queue_path
from functional.example_pages import chromium, shown, site
from functional.http import Api
from functional.wait import wait_until

__all__ = ["chromium", "site"]

#: Seconds for what a browser does on a busy machine; it opens a feed again after up to 4 s.
PATIENCE = 60.0


def test_page_shows_each_message_once_though_the_gateway_is_killed(start_gateway, chromium, site, queue):
    gateway = start_gateway(cors={"allowed_origin": site})
    api = Api(gateway.url)
    post(api, queue, "one", {"two": 2})
    shared = api.post(f"{queue_path(queue)}/share", json={"url": True}).json()
    page = chromium.open(f"{site}/feed.html#{quote(gateway.url + shared['url'], safe=':/?&=%')}")

    wait_until(lambda: shown(page) == ["one", {"two": 2}], PATIENCE, "what was there")
    post(api, queue, "three")
    wait_until(lambda: shown(page) == ["one", {"two": 2}, "three"], PATIENCE, "what was posted")

    gateway.kill()
    gateway.start()
    post(api, queue, "four")
    wait_until(lambda: len(shown(page)) >= 4, PATIENCE, "what was posted after a restart")
    gateway.restart()  # the feed ends with an event this time
    post(api, queue, "five")
    wait_until(lambda: len(shown(page)) >= 5, PATIENCE, "what was posted after another")
    assert shown(page) == ["one", {"two": 2}, "three", "four", "five"]

    assert api.delete(queue_path(queue)).status_code == 204
    wait_until(
        lambda: page.evaluate("document.getElementById('state').textContent") == "ended: deleted", PATIENCE, "the end"
    )
    assert shared["signature"] not in gateway.log
    page.close()


def test_page_of_another_origin_is_shown_nothing(start_gateway, chromium, site, queue):
    gateway = start_gateway(cors={"allowed_origin": "https://other.example"})
    api = Api(gateway.url)
    post(api, queue, "one")
    shared = api.post(f"{queue_path(queue)}/share", json={"url": True}).json()
    page = chromium.open(f"{site}/feed.html#{quote(gateway.url + shared['url'], safe=':/?&=%')}")
    wait_until(
        lambda: page.evaluate("document.getElementById('state')?.textContent") == "closed", PATIENCE, "the refusal"
    )
    assert shown(page) == []
    page.close()
