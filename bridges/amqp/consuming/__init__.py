"""Consumers: messages of many queues as they come, over one connection or a few.

``consumer.py`` is what others see, with a thread for each connection (``thread.py``). ``connection.py`` knows the
queues' consumers on the broker, and ``channel.py`` is py-amqp's channel without its waits.
"""

from bridges.amqp.consuming.consumer import AMQPConsumer

__all__ = ["AMQPConsumer"]
