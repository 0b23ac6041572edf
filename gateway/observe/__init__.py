"""What operators see: metrics, logs, and no secrets in them."""
