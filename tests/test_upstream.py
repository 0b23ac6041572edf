"""What the gateway replaces inside of libraries is still what it was when it was replaced.

Each entry is a hash of a function's or class' source in the library. If one fails after an upgrade, compare the
library's new source with the old one and with ours, which the comment names. Take over what matters: a
security fix, a call that ours has to make too. Run all tests, and only then write the new hash here.
gateway/server/README.md says what is replaced and why.
"""

import inspect
from hashlib import sha256
from importlib import import_module
from importlib.metadata import packages_distributions, version
from typing import Any

import pytest

from gateway.config.reader import Configuration
from gateway.server.connection import ClientConnection
from gateway.server.loop import Listener
from gateway.server.parser import Parser
from gateway.server.tasks import ApplicationErrorTask, Task

#: Our subclasses, each of whose overriding methods must have an entry.
SUBCLASSES = (ApplicationErrorTask, ClientConnection, Listener, Configuration, Parser, Task)

#: By the library's name for it.
SOURCES = {
    # gateway/server/connection.py overrides these,
    "waitress.channel:HTTPChannel.__init__": "a194769af3fd2e35",
    "waitress.channel:HTTPChannel.add_channel": "235de3cdfd2c3e8a",
    "waitress.channel:HTTPChannel.del_channel": "a018ed85e5e518cd",
    "waitress.channel:HTTPChannel.handle_write": "6c900f395b306f09",
    "waitress.channel:HTTPChannel.readable": "e4722238ce60c915",
    "waitress.channel:HTTPChannel.received": "08d6df73fb69da84",
    "waitress.channel:HTTPChannel.service": "f73afa13748e1128",
    "waitress.channel:HTTPChannel.writable": "d0cbd4ae1b3ba2a3",
    "waitress.channel:HTTPChannel.write_soon": "20eedb92a8237c47",
    "waitress.wasyncore:dispatcher.recv": "2e96a95e63f72440",
    # and relies on these.
    "waitress.channel:HTTPChannel._flush_some": "fe7a9a752a419402",
    "waitress.channel:HTTPChannel._flush_exception": "c9f3751ffdb057b7",
    "waitress.channel:HTTPChannel.handle_close": "8f59b9aaa45566bb",
    "waitress.channel:HTTPChannel.handle_read": "5f1fb08c95aa00cc",
    "waitress.channel:HTTPChannel.send_continue": "842ebf929f6dbb14",
    "waitress.wasyncore:dispatcher.send": "1f089e74390268a3",
    "waitress.wasyncore:dispatcher.close": "dd4afafdd01181b1",
    # gateway/server/loop.py overrides these,
    "waitress.server:BaseWSGIServer.__init__": "e70a16b5b63c0a98",
    "waitress.server:BaseWSGIServer.fix_addr": "eaa219565762f046",
    "waitress.server:BaseWSGIServer.handle_accept": "69bfcf0fc140592a",
    "waitress.server:BaseWSGIServer.readable": "4eea9c1036b55b41",
    "waitress.server:TcpWSGIServer.getsockname": "a5b0971a52f7ed53",
    "waitress.server:TcpWSGIServer.set_socket_options": "50d6e1ffff09efd9",
    # and does in turn() and adopt() what these do.
    "waitress.server:BaseWSGIServer.add_task": "19e994eb9cc95a9a",
    "waitress.server:BaseWSGIServer.run": "f6d4f8a820ec7d93",
    "waitress.server:BaseWSGIServer.maintenance": "4ab5b7f595bc4253",
    "waitress.wasyncore:poll": "526c57a46ca9c6ba",
    "waitress.wasyncore:read": "65efa0038062243e",
    "waitress.wasyncore:write": "da89ca259756b2d1",
    "waitress.proxy_headers:proxy_headers_middleware": "3adc9a6617126b2c",
    # gateway/server/parser.py overrides these, and calls the last two.
    "waitress.parser:HTTPRequestParser.parse_header": "c2c093b901782da6",
    "waitress.parser:HTTPRequestParser.received": "b466c02de37d4a01",
    "waitress.parser:unquote_bytes_to_wsgi": "9078074dab337a19",
    "waitress.receiver:FixedStreamReceiver": "434997a7017f1336",
    # gateway/server/chunks.py stands in for this.
    "waitress.receiver:ChunkedReceiver": "7d4fd7a3f8c53daa",
    # gateway/server/tasks.py overrides these, and relies on the rest.
    "waitress.task:ErrorTask.execute": "4abe3262db04d291",
    "waitress.task:Task.set_close_on_finish": "90433a0ffcaf34a7",
    "waitress.task:Task.start": "4a0ea27954923854",
    "waitress.task:Task.service": "d96bb4019c488cca",
    "waitress.task:Task.finish": "9bc080ca74743a10",
    "waitress.task:Task.write": "f9a97135b3b5d691",
    "waitress.task:Task.build_response_header": "2cf70b88816fabc1",
    "waitress.task:WSGITask.execute": "207afc60fcf3181f",
    "waitress.task:WSGITask.get_environment": "3bb57be6c7db4e59",
    # gateway/server/thread_pool.py stands in for this.
    "waitress.task:ThreadedTaskDispatcher": "541f30c57f083fdf",
    # gateway/observe/shared_values.py stands in for the first, and gateway/observe/metrics.py wraps the second.
    "prometheus_client.values:MutexValue": "70ff194268e82391",
    "prometheus_client.values:MultiProcessValue": "8077cd2c482fc32e",
    # gateway/config/reader.py overrides these.
    "oslo_config.cfg:ConfigOpts._do_get": "a7c1b94b3fe56739",
    "oslo_config.cfg:ConfigOpts._substitute": "a0df176b59c983e5",
}


def thing(name: str) -> Any:
    """What a name stands for: ``module:Class.method`` or ``module:function``."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def digest(found: Any) -> str:
    """The hash of a source."""
    return sha256(inspect.getsource(found).encode()).hexdigest()[:16]


def overridden(ours: type) -> set[str]:
    """The library's names of the methods that a class of ours overrides, where the library defines them."""
    names = set()
    for name, function in vars(ours).items():
        theirs = next((base for base in ours.__mro__[1:] if name in vars(base)), object)
        if inspect.isfunction(function) and theirs is not object:
            names.add(f"{theirs.__module__}:{theirs.__qualname__}.{name}")
    return names


@pytest.mark.parametrize("name", SOURCES)
def test_replaced_source_is_the_one_that_was_looked_at(name: str) -> None:
    library = packages_distributions()[name.partition(".")[0].partition(":")[0]][0]
    assert digest(thing(name)) == SOURCES[name], (
        f"{library} {version(library)} has another {name}: compare it with ours, as the docstring of this file says"
    )


@pytest.mark.parametrize("ours", SUBCLASSES)
def test_each_overridden_method_has_an_entry(ours: type) -> None:
    names = overridden(ours)
    assert names and names - SOURCES.keys() == set()


def test_change_of_a_source_is_seen() -> None:
    def before() -> int:
        return 1

    def after() -> int:
        return 2

    assert digest(before) != digest(after)
