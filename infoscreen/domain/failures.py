"""Failed services: when a report counts as new, and when an emptied report withdraws it.

A report is retained by the broker, so the same one arrives again after every reconnect, and our own clearing
of it comes back to us as an empty message that looks just like a device's.
"""

from datetime import datetime

from infoscreen.domain.clients import Client


def raises(client: Client, failed_at: datetime) -> bool:
    """Tell whether a report with the device's ``failed_at`` is news.

    Newer than both the shown and the acknowledged.
    """
    known = max((at for at in (client.service_failed_at, client.service_failed_acked_at) if at), default=None)
    return known is None or failed_at > known


def empty_withdraws(client: Client) -> bool:
    """Tell whether an empty message withdraws the failure that is shown.

    A failure raised between our clearing of the one before it and the return of that clearing was on its way
    at the same time: the empty message is our own echo, perhaps redelivered, and says nothing about it.
    Taking an echo for a device's word would lose an alarm; the other mistake only costs an operator's click.
    """
    raised, cleared = client.service_failed_raised_at, client.service_failed_clear_requested_at
    if client.service_failed_at is None or raised is None:
        return False
    if cleared is None or raised < cleared:
        return True
    return client.service_failed_echo_at is not None and raised > client.service_failed_echo_at
