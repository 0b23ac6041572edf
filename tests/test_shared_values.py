"""Metrics of several workers in memory that they share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.observe.fast_paths import SHARED_MEMORY
from gateway.observe.shared_values import Memory, Shared, Value

SIZE = 4096


def values_of(memory: Memory, worker: int) -> type[Value]:
    return type("SharedValue", (Value,), {"shared": Shared(memory, worker)})


def make(kind: type[Value], label: str = "a", typ: str = "counter", mode: str = "") -> Value:
    return kind(typ, "metric", "metric_total", ("label",), (label,), "Help.", multiprocess_mode=mode)


def test_value_is_the_sum_over_all_workers() -> None:
    memory = Memory(3, SIZE)
    kinds = [values_of(memory, worker) for worker in range(3)]
    for number, kind in enumerate(kinds):
        make(kind).inc(10 ** number)
    value = make(kinds[0])
    value.inc(0.5)
    kinds[0].shared.look()
    assert value.get() == 111.5


def test_gauge_may_be_the_largest_value_of_all_workers() -> None:
    memory = Memory(3, SIZE)
    kinds = [values_of(memory, worker) for worker in range(3)]
    values = [make(kind, typ="gauge", mode="livemax") for kind in kinds]
    for value, number in zip(values, (3, 7, 5), strict=True):
        value.set(number)
    assert kinds[0].shared.look() == []
    assert values[0].get() == 7
    memory.part(1).end()
    kinds[0].shared.look()
    assert values[0].get() == 5


def test_what_only_others_have_counted_is_told() -> None:
    memory = Memory(2, SIZE)
    make(values_of(memory, 1), "theirs").inc(1)
    own = values_of(memory, 0)
    make(own, "ours")
    assert own.shared.look() == [("metric", {"label": "theirs"})]
    assert make(own, "theirs").get() == 1


def test_worker_that_replaces_another_goes_on_counting_and_has_nothing_open() -> None:
    memory = Memory(1, SIZE)
    first = values_of(memory, 0)
    make(first, "a").inc(3)
    make(first, "b", "gauge").set(7)
    memory.part(0).end()
    second = values_of(memory, 0)
    assert sorted(labels["label"] for _, labels in second.shared.look()) == ["a", "b"]
    counter = make(second, "a")
    counter.inc(1)
    assert counter.get() == 4
    assert make(second, "b", "gauge").get() == 0


def test_full_part_fails_nothing_spoils_no_other_and_is_seen(fallbacks: Callable[[], list[str]]) -> None:
    memory = Memory(2, SIZE)
    other = values_of(memory, 1)
    make(other).inc(5)
    own = values_of(memory, 0)
    values = [make(own, f"label {number}" * 5) for number in range(100)]
    for value in values:
        value.inc(2)
    assert {value.get() for value in values} == {2.0}
    own.shared.look()
    assert make(own).get() == 5
    assert fallbacks() == [SHARED_MEMORY]


def test_entry_that_a_killed_worker_has_not_finished_is_none() -> None:
    memory = Memory(1, SIZE)
    make(values_of(memory, 0), "a").inc(1)
    part = memory.part(0)
    used = part._used
    part.add(b"half")
    memory._map[0:8] = used.to_bytes(8, "little")
    second = values_of(memory, 0)
    make(second, "b").inc(2)
    assert [value for _, _, value in part.entries()] == [1.0, 2.0]


def test_processes_share_it() -> None:
    memory = Memory(2, SIZE)
    pid = os.fork()
    if not pid:
        make(values_of(memory, 1)).inc(4)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    own = values_of(memory, 0)
    own.shared.look()
    assert make(own).get() == 4


#: Counts, has the folder removed, and goes on; prints what is shown then.
PROGRAM = """
import os, shutil, sys
from gateway.observe import metrics
metrics.MESSAGES.labels("posted").inc()
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
metrics.MESSAGES.labels("posted").inc()
metrics.CONNECTIONS.labels("default", "broker").set(3)
metrics.REQUESTS.labels("/", "GET", 300).observe(0.1)
if not os.fork():
    metrics.MESSAGES.labels("claimed").inc()
    metrics.MESSAGES.labels("posted").inc()
    metrics.render()
    os._exit(0)
assert os.wait()[1] == 0
print(metrics.render()[0].decode())
"""


def test_files_that_are_removed_fail_no_count_and_no_look(tmp_path: Path) -> None:
    """Under other servers, where prometheus_client's files are used."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'marconi_messages_total{event="posted"} 2.0' in done.stdout
    assert 'marconi_connections{peer="broker",pool="default"} 3.0' in done.stdout
    assert done.stderr.count("metrics: FileNotFoundError") <= 2


@pytest.mark.parametrize("workers", [1, 3])
def test_all_workers_show_the_same(workers: int) -> None:
    program = f"""
import os
from gateway.observe.shared_values import Memory
memory = Memory({workers})
for worker in range({workers}):
    if os.fork():
        assert os.wait()[1] == 0
        continue
    from gateway.observe import metrics
    metrics.share(memory, worker)
    metrics.MESSAGES.labels("posted").inc(2)
    metrics.REQUESTS.labels("/", "GET", 300 + worker).observe(0.2)
    metrics.WAITING_REQUESTS.inc(3)
    metrics.DELIVERY_LAG.observe(0.2)
    for metric in vars(metrics).values():
        is_ours = isinstance(metric, (metrics.Counter, metrics.Gauge, metrics.Histogram))
        if is_ours and metric is not metrics.REQUESTS and metric._labelnames:
            metric.labels(*["seen" for _ in metric._labelnames])
    if worker == {workers} - 1:
        os.write(1, metrics.render()[0])
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f'marconi_messages_total{{event="posted"}} {2.0 * workers}' in done.stdout
    assert f"marconi_waiting_requests {3.0 * workers}" in done.stdout
    assert f'marconi_delivery_lag_seconds_bucket{{le="+Inf"}} {float(workers)}' in done.stdout
    for worker in range(workers):
        labels = f'method="GET",route="/",status="{300 + worker}"'
        assert f"marconi_request_seconds_count{{{labels}}} 1.0" in done.stdout
        assert f'marconi_request_seconds_bucket{{le="0.1",{labels}}} 0.0' in done.stdout
        assert f'marconi_request_seconds_bucket{{le="+Inf",{labels}}} 1.0' in done.stdout
    for name in ("marconi_unopened_messages_total", "marconi_closed_connections_total"):
        assert f'{name}{{reason="seen"}} 0.0' in done.stdout
    assert 'marconi_fast_path_fallbacks_total{option="[wsgi] pin_workers"} 0.0' in done.stdout
    assert "_created" not in done.stdout
