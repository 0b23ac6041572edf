"""The application for other WSGI servers: ``gateway.wsgi:app``.

Configured by /etc/marconi/marconi.conf (oslo.config's usual places) and the environment. What `marconi serve` refuses
is refused here too.
"""

from gateway.access.exposure import LocalOnly, check_exposure, lets_all_in
from gateway.app import build
from gateway.config.reader import load
from gateway.observe.logs import configure
from gateway.server.application import WSGI
from gateway.server.forking import PerProcess

conf = load()
check_exposure(conf)
configure(conf)
build(conf).close()  # refused now, not at the first request
app: WSGI = PerProcess(lambda: build(conf).app)
if lets_all_in(conf):
    app = LocalOnly(app)
