"""What a service tells systemd of itself: ``sd_notify(3)``, for daemon and agent."""

import contextlib
import os
import socket


def notify(*assignments: str) -> None:
    """Tell systemd something, such as ``READY=1``; nobody listens unless the unit says ``Type=notify``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    to = "\0" + address[1:] if address[0] == "@" else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd, contextlib.suppress(OSError):
        to_systemd.setblocking(False)
        to_systemd.sendto("\n".join(assignments).encode(), to)


def is_listening() -> bool:
    """Tell whether systemd wants to be told."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def watchdog_seconds() -> float | None:
    """Return how often systemd wants to hear from us; None if it does not."""
    text = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return (int(text) / 1e6 or None) if text.isdecimal() and ours else None
