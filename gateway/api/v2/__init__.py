"""The OpenStack Messaging API, version 2."""
