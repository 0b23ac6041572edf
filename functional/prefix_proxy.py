"""A proxy that has a service below a path of its own."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds for an answer of the service.
TIMEOUT = 30.0

#: Headers that are each connection's own.
OWN = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@contextmanager
def proxy(port: int, prefix: str) -> Iterator[str]:
    """Take `prefix` off the paths of requests for the service at a port; the URL below which it is then."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            if not f"{self.path}/".startswith(f"{prefix}/"):
                self.send_error(404, "not the service's")
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
            service = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            service.request(self.command, self.path.removeprefix(prefix) or "/", body, headers)
            answer = service.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in OWN | {"content-length"}:
                    self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            service.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
        server.shutdown()
        thread.join()
