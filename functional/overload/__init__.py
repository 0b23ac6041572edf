"""More requests than the gateway can serve, clients that misbehave, and restarts under load."""
