"""The OpenAPI document against a running gateway: clients that are made of it, and whatever it allows and forbids."""
