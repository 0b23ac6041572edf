"""HTTP/1.1 on waitress. Knows WSGI and no API."""
