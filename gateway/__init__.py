"""Marconi: queues, messages and claims over HTTP, in front of the AMQP brokers people already run."""

__version__ = "0.1.0"
