"""The OpenStack Messaging API, version 1.1: version 2 with fewer calls and simpler metadata."""
