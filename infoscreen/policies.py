"""The settings, as the rules of the domain want them."""

from datetime import timedelta

from infoscreen.domain.hours import HoursPolicy
from infoscreen.domain.lockout import LockoutPolicy
from infoscreen.domain.presence import StalePolicy
from infoscreen.domain.recovery import RecoveryPolicy
from infoscreen.settings import Settings


def hours_policy(settings: Settings) -> HoursPolicy:
    """Return the settings that tell how exactly devices keep their hours."""
    return HoursPolicy(
        opening_grace=seconds(settings.opening_grace_seconds),
        closing_grace=seconds(settings.closing_grace_seconds),
        opening_lead=seconds(settings.opening_lead_seconds),
    )


def lockout_policy(settings: Settings) -> LockoutPolicy:
    """Return the settings of the lockout."""
    window = seconds(settings.command_lockout_window_seconds)
    return LockoutPolicy(settings.command_lockout_threshold, window)


def recovery_policy(settings: Settings) -> RecoveryPolicy:
    """Return the settings as the recovery's rules want them; an action's timeout is its wait, too."""
    absence = settings.credible_absence_seconds
    grace = settings.recovery_observer_grace_seconds
    return RecoveryPolicy(
        enabled=settings.crash_recovery_enabled,
        poll=seconds(settings.crash_recovery_poll_seconds),
        grace=seconds(settings.crash_recovery_grace_seconds),
        boot_grace=seconds(settings.boot_grace_seconds),
        start_timeout=seconds(settings.start_timeout_seconds),
        credible_absence=seconds(absence),
        observer_grace=None if grace is None else seconds(grace),
        max_share=settings.recovery_max_share,
        recovered_heartbeats=settings.recovered_heartbeats,
        recovered_after=seconds(settings.recovered_seconds),
        relapse=seconds(settings.relapse_seconds),
        restart_attempts=settings.recovery_restart_attempts,
        reboot_attempts=settings.recovery_reboot_attempts,
        power_cycle_attempts=settings.recovery_power_cycle_attempts,
        actions_per_day=settings.recovery_actions_per_day,
        restart_wait=seconds(settings.restart_app_timeout_seconds),
        reboot_wait=seconds(max(settings.reboot_timeout_seconds, absence)),
        power_cycle_wait=seconds(settings.power_cycle_timeout_seconds),
        stale_unlearned=seconds(settings.heartbeat_stale_seconds),
        command_expiry=seconds(settings.command_expiry_seconds),
        hours=hours_policy(settings),
    )


def stale_policy(settings: Settings) -> StalePolicy:
    """Return the settings that tell when a client is unwell."""
    return StalePolicy(
        settings.stale_min_seconds,
        settings.heartbeat_stale_seconds,
        settings.start_timeout_seconds,
        settings.frozen_after_seconds,
    )


def seconds(count: float) -> timedelta:
    """Return what a setting in seconds stands for."""
    return timedelta(seconds=count)
