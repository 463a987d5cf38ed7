"""Why callers are refused and why messages of devices are, as codes; ``words/`` has the sentences."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from infoscreen.domain.accounts import Role
from infoscreen.domain.codes import Code, Fact, Packed, unpacked
from infoscreen.domain.commands import Action, CommandStatus
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.power.outlet import PowerFault


class ErrorCode(Code):
    """Why a request is refused or failed."""

    WRONG_FIELD = "wrong_field", {"field": str, "fault": FieldFault}
    WRONG_FIELDS = "wrong_fields", {"fields": str}
    UNREADABLE_BODY = "unreadable_body"
    NO_CLIENT = "no_client", {"uuid": str}
    NO_COMMAND = "no_command", {"id": str}
    NO_BULK_ACTION = "no_bulk_action", {"id": str}
    NO_INCIDENT = "no_incident", {"id": str}
    NO_SCREENSHOT = "no_screenshot"
    NO_SITE = "no_site", {"site": str}
    NO_USER = "no_user"
    NO_TOKEN = "no_token", {"id": str}
    NO_SESSION = "no_session"
    NO_FILE = "no_file"
    NOT_A_UUID = "not_a_uuid"
    NOT_A_NUMBER = "not_a_number"
    NO_SUCH_PAGE = "no_such_page"
    SIGN_IN = "sign_in"
    WRONG_CREDENTIALS = "wrong_credentials"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a code
    ACCESS_ENDED = "access_ended"
    CODE_NEEDED = "code_needed"
    WRONG_CODE = "wrong_code"
    SIGN_IN_EXPIRED = "sign_in_expired"
    IDENTITY_REFUSED = "identity_refused"
    IDENTITY_NAME = "identity_name", {"name": str}
    IDENTITY_NAME_TAKEN = "identity_name_taken", {"name": str}
    NO_ROLE_HERE = "no_role_here"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    NO_FACTOR = "no_factor"
    NO_FACTOR_OFFERED = "no_factor_offered"
    FACTOR_NOT_SET_UP = "factor_not_set_up"
    FACTOR_REQUIRED = "factor_required"
    ROLE_TOO_LOW = "role_too_low", {"needed": Role, "role": Role}
    TOKEN_MANAGES_NO_ACCOUNTS = "token_manages_no_accounts"  # noqa: S105 - a code
    PEOPLE_ONLY = "people_only"
    TOKENS_FOR_OTHERS = "tokens_for_others"
    TOKEN_OUTLIVES = "token_outlives", {"ends_at": datetime}
    TOKEN_ROLE_TOO_HIGH = "token_role_too_high", {"role": Role, "highest": Role}
    FORCE_NEEDS_ADMIN = "force_needs_admin"
    METRICS_FOR_HOST_ONLY = "metrics_for_host_only"
    OTHER_SITE = "other_site"
    NO_ORIGIN = "no_origin"
    FOREIGN_ORIGIN = "foreign_origin"
    TOO_MANY_ATTEMPTS = "too_many_attempts", {"seconds": int}
    SIGN_INS_WAITING = "sign_ins_waiting"
    NO_MEMORY_FOR_PASSWORD = "no_memory_for_password"  # noqa: S105 - a code
    USER_EXISTS = "user_exists", {"username": str}
    DEVICE_HAS_ACCOUNT = "device_has_account", {"uuid": str}
    HELPER_MISSING = "helper_missing", {"uuid": str}
    HELPER_UNABLE = "helper_unable"
    ENROLMENT_OFF = "enrolment_off"
    ENROLMENT_NEEDS_HTTPS = "enrolment_needs_https"
    WRONG_ENROLMENT_CODE = "wrong_enrolment_code"
    TOO_MANY_ENROLMENT_CODES = "too_many_enrolment_codes", {"most": int}
    LAST_ADMIN = "last_admin", {"username": str}
    NOT_QUEUED = "not_queued", {"status": CommandStatus}
    COMMAND_IN_FLIGHT = "command_in_flight", {"action": Action}
    REQUESTED_AT_ONCE = "requested_at_once"
    LOCKED_OUT = "locked_out"
    NO_OUTLET = "no_outlet", {"uuid": str}
    OUTLET_SHARED = "outlet_shared", {"clients": str}
    OUTLET_PROTECTED = "outlet_protected"
    OUTLET_FEEDS_OTHERS = "outlet_feeds_others", {"clients": str}
    OUTLET_IN_USE = "outlet_in_use"
    POWER_CYCLES_USED = "power_cycles_used", {"most": int, "until": datetime}
    CLIENT_STARTING = "client_starting"
    ONE_CLIENT_ONLY = "one_client_only", {"action": Action}
    OUTLET_FAULT = "outlet_fault", {"fault": PowerFault, "said": str}
    OUTLETS_BUSY = "outlets_busy"
    NOT_GIVEN_UP = "not_given_up"
    NOTHING_WRONG = "nothing_wrong"
    INCIDENT_OVER = "incident_over"
    STREAMS_OF_USER = "streams_of_user", {"streams": int}
    STREAMS_OPEN = "streams_open", {"streams": int}
    NO_SITE_ID = "no_site_id", {"id": str}
    SITE_EXISTS = "site_exists", {"name": str}
    SITE_IN_USE = "site_in_use", {"clients": int}
    NO_CHANNEL = "no_channel", {"id": str}
    NO_RULE = "no_rule", {"id": str}
    CHANNEL_EXISTS = "channel_exists", {"name": str}
    RULE_EXISTS = "rule_exists", {"name": str}
    TOO_MANY_CHANNELS = "too_many_channels", {"most": int}
    NOTIFY_EXTRA_MISSING = "notify_extra_missing"
    NO_SECRETS_KEY = "no_secrets_key"
    SECRET_OF_OTHER_KEY = "secret_of_other_key", {"key": str}
    SECRET_DAMAGED = "secret_damaged"  # noqa: S105 - a code
    QUERY_TOO_EXPENSIVE = "query_too_expensive"
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_OUTCOME_UNKNOWN = "store_outcome_unknown"
    INTERNAL = "internal"
    NOT_READY = "not_ready", {"missing": str}
    BAD_REQUEST = "bad_request"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    HTTP_STATUS = "http_status", {"phrase": str}
    """Another refusal of the HTTP library, by the phrase of its status."""


class MessageDefect(Code):
    """Why a message of a device cannot be stored as what it claims to be."""

    TOO_LARGE = "too_large", {"bytes": int, "most": int}
    TOO_MANY_PIXELS = "too_many_pixels", {"width": int, "height": int, "most": int}
    NOT_AN_IMAGE = "not_an_image"
    NOT_PRESENCE = "not_presence"
    NOT_JSON = "not_json", {"character": int}
    NOT_AN_OBJECT = "not_an_object"
    TEXT_BEHIND = "text_behind", {"character": int}
    WRONG_FIELD = "wrong_field", {"field": str, "fault": FieldFault}
    UUID_MISMATCH = "uuid_mismatch", {"payload": str, "topic": str}
    UNKNOWN_TOPIC = "unknown_topic", {"topic": str}
    BAD_UUID = "bad_uuid", {"given": str}
    UNKNOWN_CLIENT = "unknown_client"
    UNKNOWN_COMMAND = "unknown_command", {"command_id": str}
    FOREIGN_COMMAND = "foreign_command", {"command_id": str}
    TEXT = "text", {"text": str}
    """Stored by a version before codes, and not one of its known sentences."""


_REASONS: Mapping[MessageDefect, str] = MappingProxyType(
    {
        MessageDefect.TOO_MANY_PIXELS: "too_large",
        **dict.fromkeys(
            (
                MessageDefect.NOT_PRESENCE,
                MessageDefect.NOT_JSON,
                MessageDefect.NOT_AN_OBJECT,
                MessageDefect.TEXT_BEHIND,
                MessageDefect.WRONG_FIELD,
            ),
            "malformed",
        ),
    }
)


def stored_defect(stored: Packed | None) -> Fact[MessageDefect] | None:
    """Return the defect that ``Client.refused_defect`` holds."""
    return None if stored is None else unpacked(MessageDefect, stored["code"], stored["arguments"])


def reason_of(defect: MessageDefect) -> str:
    """Return the stable name under which a defect is counted; several share one."""
    return _REASONS.get(defect, defect.value)
