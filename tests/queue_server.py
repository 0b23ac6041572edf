"""A small server of the part of the API that `marconi bench` uses, with queues in memory, and with faults on demand."""

import itertools
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TIMEOUT = 10.0


class QueueServer(ThreadingHTTPServer):
    """`fault(method, path)` may answer for it: a status, "close" to hang up, "last" to hang up after the answer,
    "silence" to say nothing."""

    daemon_threads = True
    request_queue_size = 64  # a connection that finds no room waits a second before it tries again

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.queues = defaultdict(dict)  # queue: {id: [body, claim]}
        self.messages = {}  # id: message as it was posted
        self.fifo = set()
        self.seen = Counter()
        self.headers = []
        self.bodies = []
        self.fault = lambda method, path: None
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, document=None, last=False):
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if last:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def handle_call(self):
        server = self.server
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        _, _, _, queue, *rest = parts.path.split("/")
        length = int(self.headers.get("Content-Length") or 0)
        given = json.loads(self.rfile.read(length) or b"null")
        kind = rest[0] if rest else "queue"
        with server.lock:
            server.seen[f"{self.command} {kind}"] += 1
            server.headers.append(dict(self.headers))
            fault = server.fault(self.command, parts.path)
            if fault == "close":
                self.close_connection = True
                return
            if fault == "silence":
                server.lock.release()
                server.ended.wait(TIMEOUT)
                server.lock.acquire()
                self.close_connection = True
                return
            if isinstance(fault, int):
                self.answer(fault, {"title": "a fault"})
                return
            status, document = self.work(server.queues, queue, kind, rest[1:], query, given)
            self.answer(status, document, last=fault == "last")

    def work(self, queues, queue, kind, rest, query, given):
        messages = queues[queue]

        def shown(ids):
            return {"messages": [
                {"id": id_, "href": f"/v2/queues/{queue}/messages/{id_}?claim_id=c", "ttl": 60, "age": 0,
                 "body": messages[id_][0]}
                for id_ in ids
            ], "links": [{"rel": "next", "href": f"/v2/queues/{queue}/messages?marker={max(ids, default='')}"}]}

        def group(id_):
            return self.server.messages[id_].get("group")

        free = [id_ for id_, (_, claim) in messages.items() if not claim]
        if queue in self.server.fifo:
            blocked = {group(id_) for id_, (_, claim) in messages.items() if claim}
            free = [id_ for id_ in free if group(id_) not in blocked]
        if (self.command, kind) == ("POST", "messages"):
            made = [f"{next(self.server.numbers):08d}" for _ in given["messages"]]
            for id_, message in zip(made, given["messages"], strict=True):
                messages[id_] = [message["body"], False]
                self.server.messages[id_] = message
            self.server.bodies.append(given["messages"][0]["body"])
            return 201, {"resources": made}
        if (self.command, kind) == ("GET", "messages"):
            after = [id_ for id_ in free if id_ > query.get("marker", "")]
            return 200, shown(after[:int(query.get("limit", 10))])
        if (self.command, kind) == ("POST", "claims"):
            ids = free[:int(query["limit"])]
            for id_ in ids:
                messages[id_][1] = True
            return (201, shown(ids)) if ids else (204, None)
        if (self.command, kind) == ("DELETE", "messages") and rest:
            messages.pop(rest[0], None)
            return 204, None
        if (self.command, kind) == ("DELETE", "messages"):
            ids = free[:int(query["pop"])]
            document = shown(ids)
            for id_ in ids:
                del messages[id_]
            return 200, document
        if self.command == "DELETE":
            del queues[queue]
        elif given.get("_fifo"):
            self.server.fifo.add(queue)
        return 204, None

    do_GET = do_POST = do_PUT = do_DELETE = handle_call


@contextmanager
def queue_server() -> Iterator[QueueServer]:
    """One that runs."""
    server = QueueServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(TIMEOUT)
