"""Python imports this before all else where its folder is on PYTHONPATH: the network is refused, and who asks is noted.

An audit hook sees what any library does by Python's sockets, however it came by them, and cannot be taken off.
Sockets of the machine itself (AF_UNIX, an event loop's pair) are let through.
"""

import os
import socket
import sys
from collections.abc import Sequence

TO_AN_ADDRESS = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")
LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")


def refuse(event: str, arguments: Sequence[object]) -> None:
    if event in TO_AN_ADDRESS:
        asking, *arguments = arguments
        if getattr(asking, "family", None) not in (socket.AF_INET, socket.AF_INET6):
            return
    elif event not in LOOK_UPS:
        return
    with open(os.environ["TUI_LAB_ASKED"], "a", encoding="utf-8") as asked:
        asked.write(f"{event} {arguments!r}\n")
    raise ConnectionRefusedError(f"{event}: the network is blocked")


sys.addaudithook(refuse)
