"""Migration: a queue moves to another pool while it is used.

A *move* is recorded in the queue's document, and goes through phases. Each of them says where posts go, what is read
first and where messages land, so that all gateways act alike. What a process remembers of a queue is up to KNOWN_FOR
seconds old: hence a change of where posts or landings go is recorded with the time from when it counts, later than
anybody's memory.

* ``waiting``: nothing has changed yet, and the move can be cancelled.
* ``landed``: what has landed goes from the old side-store to the new one, if these are two. All calls look at both.
* ``draining``: only if the new pool has no broker. The backlog of the old broker lands while posts still go there,
  until little is left.
* ``switching``: posts go to the new pool from the recorded time on. Reads take landed messages first, then the old
  broker's backlog, then the new one's. What is left in the old broker lands.
* ``settling``: the old broker's queue was empty. It is kept until nobody can give a message back to it any more. Then
  the record says that it is left, so that a post which was confirmed late is sent again; what had come by then lands.

The queue's subscriptions follow (subscriptions.py): when copies of posts land in the new side-store if there is no old
broker, else when its backlog begins to land; so the old delivery queues are emptied as the queue itself is.

One process does the work, the *mover* (mover.py, phases.py), under a lock that another takes over when it dies. Each
step can be repeated. What is created or removed for a move changes under the lock of the queue, as in its creation and
deletion.
"""
