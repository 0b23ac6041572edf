"""The OpenStack Messaging API, version 1: queues must exist, and what is not there is a 204."""
