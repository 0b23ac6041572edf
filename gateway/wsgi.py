"""The application for other WSGI servers: ``gateway.wsgi:app``.

Configured by /etc/marconi/marconi.conf (oslo.config's usual places) and the environment. What `marconi serve` refuses
is refused here too.
"""

from gateway.conf import load
from gateway.exposure import LocalOnly, check_exposure, lets_all_in
from gateway.forking import WSGI, PerProcess
from gateway.logs import configure
from gateway.worker import build

conf = load()
check_exposure(conf)
configure(conf)
build(conf)[0].close()  # refused now, not at the first request
app: WSGI = PerProcess(lambda: build(conf)[1])
if lets_all_in(conf):
    app = LocalOnly(app)
