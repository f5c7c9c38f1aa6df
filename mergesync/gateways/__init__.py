"""Gateways: the protocols of four older room servers, spoken on the same paths (docs/gateways.md).

Nothing of mergesync imports this. Each is made of what any application may use, so one of your own can be, too.
"""

from mergesync.gateways.broker import message_broker
from mergesync.gateways.document import wsss
from mergesync.gateways.room import room_server
from mergesync.gateways.state import state_sync

__all__ = ["message_broker", "room_server", "state_sync", "wsss"]
