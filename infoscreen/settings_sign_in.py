"""The settings of how people sign in."""

from pydantic import BaseModel, ConfigDict

from infoscreen.settings_values import Roles
from infoscreen.settings_values import knob as _knob


class SignInSettings(BaseModel):
    """Settings of how people sign in; ``Settings`` has them too."""

    model_config = ConfigDict(extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True)

    totp_required_roles: Roles = _knob(
        (), "Roles that sign in with a second factor only; needs `SECRETS_KEY`. Others may set one up."
    )


def sign_in_faults(settings: SignInSettings, *, has_key: bool) -> list[str]:
    """Return what is missing, one line each."""
    faults = []
    if settings.totp_required_roles and not has_key:
        faults.append("SECRETS_KEY is not set: TOTP_REQUIRED_ROLES needs it, as secrets are stored encrypted")
    return faults
