"""The application for other WSGI servers: ``gateway.wsgi:app``.

Configured by /etc/marconi/marconi.conf (oslo.config's usual places) and the environment.
"""

from gateway.app import make_app, make_core
from gateway.conf import load
from gateway.logs import configure

conf = load()
configure(conf)
app = make_app(conf, make_core(conf))
