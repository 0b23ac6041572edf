"""Private RabbitMQ, MongoDB and gateway processes: started for one run, gone after it."""
