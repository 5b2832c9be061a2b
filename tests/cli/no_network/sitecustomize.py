"""Refuse and log the use of the network. Python imports this first if its folder is on PYTHONPATH.

An audit hook sees every use of Python's sockets by any library and cannot be removed. Sockets within the machine
(AF_UNIX, the pair of an event loop) are allowed.
"""

import os
import socket
import sys
from collections.abc import Sequence

ADDRESS_EVENTS = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")
LOOKUP_EVENTS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")


def refuse(event: str, arguments: Sequence[object]) -> None:
    if event in ADDRESS_EVENTS:
        sock, *arguments = arguments
        if getattr(sock, "family", None) not in (socket.AF_INET, socket.AF_INET6):
            return
    elif event not in LOOKUP_EVENTS:
        return
    with open(os.environ["TUI_LAB_REQUESTS"], "a", encoding="utf-8") as log:
        log.write(f"{event} {arguments!r}\n")
    raise ConnectionRefusedError(f"{event}: the network is blocked")


sys.addaudithook(refuse)
