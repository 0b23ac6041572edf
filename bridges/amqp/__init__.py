"""Bridge to AMQP 0-9-1 brokers: RabbitMQ with quorum (default) or classic queues, and Qpid Broker-J."""

from bridges.amqp.bridge import AMQPBridge

__all__ = ["AMQPBridge"]
