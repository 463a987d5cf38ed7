"""The settings of how people sign in."""

from pydantic import BaseModel, ConfigDict

from infoscreen.settings_values import Names, OidcIssuer, Roles, Secret, Text
from infoscreen.settings_values import knob as _knob


class SignInSettings(BaseModel):
    """Settings of how people sign in; ``Settings`` has them too."""

    model_config = ConfigDict(extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True)

    totp_required_roles: Roles = _knob(
        (), "Roles that sign in with a second factor only; needs `SECRETS_KEY`. Others may set one up."
    )
    oidc_issuer: OidcIssuer | None = _knob(
        None, "OpenID Connect provider that people sign in at; needs `PUBLIC_ORIGIN`."
    )
    oidc_client_id: Text | None = _knob(None, "Our client id there.")
    oidc_client_secret: Secret | None = _knob(None, "Our client secret there; unset for a public client.")
    oidc_scopes: Text = _knob("openid profile groups", "Scopes to ask for.")
    oidc_username_claim: Text = _knob("preferred_username", "Claim with the user name.")
    oidc_groups_claim: Text = _knob("groups", "Claim with the groups.")
    oidc_viewer_groups: Names = _knob((), "Groups that have the role `viewer`.")
    oidc_operator_groups: Names = _knob((), "Groups that have the role `operator`.")
    oidc_admin_groups: Names = _knob((), "Groups that have the role `admin`.")


def sign_in_faults(settings: SignInSettings, *, has_key: bool, has_origin: bool) -> list[str]:
    """Return what is missing, one line each."""
    faults = []
    if settings.totp_required_roles and not has_key:
        faults.append("SECRETS_KEY is not set: TOTP_REQUIRED_ROLES needs it, as secrets are stored encrypted")
    if settings.oidc_issuer is not None:
        if settings.oidc_client_id is None:
            faults.append("OIDC_CLIENT_ID is not set: OIDC_ISSUER needs it")
        if not has_origin:
            faults.append("PUBLIC_ORIGIN is not set: OIDC_ISSUER needs it, as people are sent back there")
    return faults
