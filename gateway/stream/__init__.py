"""Those who wait without a thread: waiting requests, live feeds, WebSockets."""
