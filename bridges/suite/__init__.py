"""What every bridge with a backlog has to do: inherit BridgeSuite and provide `bridge` and `queue` fixtures.

The suite is installed with the package, so that the author of a driver can run it. It needs pytest, which nothing else
in this package imports.
"""

from bridges.suite.consuming import ConsumerTests
from bridges.suite.copying import CopyTests
from bridges.suite.in_order import OrderTests
from bridges.suite.messages import MessageTests
from bridges.suite.support import Inbox, bodies, consuming, drain, envelopes, eventually, together

__all__ = ["BridgeSuite", "Inbox", "bodies", "consuming", "drain", "envelopes", "eventually", "together"]


class BridgeSuite(MessageTests, OrderTests, CopyTests, ConsumerTests):
    """One test for each promise of bridges/base.py and bridges/consuming.py.

    The fixture ``bridge`` is a bridge that works, ``queue`` the name of a new queue that exists. ``other`` is another
    bridge to the same broker, if there can be one.
    """
