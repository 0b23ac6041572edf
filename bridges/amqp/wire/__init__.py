"""What AMQP 0-9-1 looks like on the wire, where py-amqp is too slow or too strict."""
