"""What would have been right: whether an action was needed, and how soon a fault can be over at best."""

from infoscreen.domain.recovery import RecoveryPolicy, Rung, Trouble
from infoscreen.domain.recovery.ladder import allowed, entry, trouble_of
from infoscreen.simulator.virtual.knowledge import Known
from infoscreen.simulator.virtual.screen import Fault, Screen
from infoscreen.simulator.virtual.timeline import START

GOING_DOWN = 2.0
"""Seconds that a device takes to halt before it boots."""


def is_needless(screen: Screen) -> tuple[bool, bool]:
    """Tell of an action sent now whether it is needless, and whether the client has nothing at all.

    Needless is what befalls a client that would come back alone: nothing is wrong with it, or what is wrong
    passes, or it is on its way up already. Being cut off passes too, but a fault behind it does not.
    """
    fault = screen.fault
    healthy = fault is None and not screen.rebooting and screen.is_well and screen.connected
    return fault is None or fault.heals_at is not None or screen.rebooting, healthy


def best_end(fault: Fault, screen: Screen, known: Known, policy: RecoveryPolicy) -> float | None:
    """Return when the fault can be over at best, as the daemon has just taken notice of it.

    Grace, then the rungs below the one that cures, each with all its attempts and waits, then the cure
    itself. Polls, budgets and holds are not counted: they are what is judged.
    """
    client = known.client
    trouble = trouble_of(client, client.status_since, None)
    if trouble is None:
        return None
    end = (client.status_since - START + policy.grace).total_seconds()
    if trouble is Trouble.UNREACHABLE and client.last_alive is not None:
        end = max(end, (client.last_alive - START + policy.reboot_wait).total_seconds())
    first = entry(trouble, client)
    for rung in (Rung.RESTART_APP, Rung.REBOOT_HOST):
        if first <= rung < fault.cured_by:
            end += allowed(rung, trouble, policy) * policy.wait(rung).total_seconds()
    if max(first, fault.cured_by) is Rung.RESTART_APP:
        return end + screen.app_start
    return end + GOING_DOWN + screen.boot + screen.app_start
