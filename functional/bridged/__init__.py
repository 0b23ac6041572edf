"""Bridged queues: existing AMQP objects and native clients on one side, HTTP on the other."""
