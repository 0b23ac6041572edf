"""WebSockets that speak Zaqar's protocol: requests and answers as over HTTP, and notifications over the connection.

A request for ``/v2/websocket``, or any on the port of [websocket], is checked by ``handshake.py``; its connection is
handed over to a ``Connection`` in the thread of the StreamLoop. A frame is a request: ``requests.py`` checks it in the
order that Zaqar has, finds its action in the table of ``actions/``, and has it done by one of the loop's hands, as a
request over HTTP by the same handlers. A connection has one request under way; those ahead of it wait, and reading
pauses when there are too many.

A subscription without a subscriber is the connection's own: ``pushes.py`` reads its delivery queue in this process, and
ends it with the connection.
"""
