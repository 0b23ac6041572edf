"""What the gateway does, without HTTP: joins a bridge and a side-store behind queues, messages and claims."""
