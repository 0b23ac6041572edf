"""`/metrics` of a service, whatever number of processes it has."""

import pytest

from functional.api.helpers import claim, post
from functional.http import Api
from functional.wait import wait_until


def value_of(text, name):
    """The value of the one series of that name and labels."""
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name)]
    assert len(values) <= 1, values
    return float(values[0]) if values else 0.0


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_count_what_all_workers_have_done(start_gateway, queue, workers):
    api = Api(start_gateway(wsgi={"workers": workers}).url)
    for _ in range(10):
        post(api.other_client(), queue, 1, 2)
    claim(api, queue, limit=5)

    text = api.get("/metrics", headers={"X-Project-ID": None, "Client-ID": None, "Accept": None}).text

    assert value_of(text, 'marconi_messages_total{event="posted"}') == 20
    assert value_of(text, 'marconi_messages_total{event="claimed"}') == 5
    posts = 'marconi_request_seconds_count{method="POST",route="/v2/queues/<queue>/messages",status="201"}'
    assert value_of(text, posts) == 10
    assert value_of(text, 'marconi_side_store_call_seconds_count{call="append",outcome="ok",pool="default"}') == 10


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_are_shown(start_gateway, queue, workers):
    api = Api(start_gateway(wsgi={"workers": workers}).url)
    post(api, queue, 1)

    def shown():
        return value_of(api.get("/metrics").text, 'marconi_connections{peer="side-store",pool="default"}')

    assert wait_until(shown, 15, "the next sample")
