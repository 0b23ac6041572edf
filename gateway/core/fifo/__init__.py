"""Claims and pops of FIFO queues: within a group messages are handed out in order, to one claim at a time.

All of it happens under the landing lease of the queue, which one process has at a time (tenure.py): what waits in the
broker lands free and in order, then the side-store is asked which messages may be handed out, and these are claimed in
one write that checks the lease (taking.py). Threads that claim at the same time wait in a line, and the first of them
serves all (lines.py); sharing.py says who gets what.

The lease alone is not enough, since a gateway may be stopped for longer than it lasts, with messages in its hands that
have not landed. So the broker gives messages of the queue to one client at a time (Bridge.fetch with ``in_order``), and
what was fetched under a lease that is lost goes back to the broker.
"""
