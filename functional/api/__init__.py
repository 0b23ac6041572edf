"""The HTTP suite: it knows a URL and the API contract, nothing of the gateway behind it."""
