"""What people are told when a request is refused or a message of a device cannot be read."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from infoscreen.domain.error_codes import ErrorCode, MessageDefect
from infoscreen.domain.faults import FieldFault
from infoscreen.words.language import N_, Language, Table, spoken

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "refused": N_("Refused"),
        "invalid-input": N_("Invalid input"),
        "unreadable-body": N_("Unreadable body"),
        "not-found": N_("Not found"),
        "unauthenticated": N_("Sign in first"),
        "second-factor-needed": N_("Second factor needed"),
        "identity-refused": N_("Sign-in refused"),
        "provider-unavailable": N_("Single sign-on is not available"),
        "forbidden": N_("Not allowed"),
        "cross-site": N_("Request from another site"),
        "too-many-attempts": N_("Too many failed attempts"),
        "busy": N_("Too busy"),
        "conflict": N_("Conflict"),
        "site-in-use": N_("Site is in use"),
        "secret-unreadable": N_("Secret cannot be read"),
        "https-needed": N_("https is needed"),
        "broker-helper-missing": N_("Accounts of the broker cannot be changed from here"),
        "broker-helper-failed": N_("The broker's accounts could not be changed"),
        "command-in-flight": N_("Another command is in flight"),
        "locked-out": N_("Client is locked out"),
        "no-outlet": N_("No outlet"),
        "outlet-shared": N_("Outlet is shared"),
        "outlet-protected": N_("Outlet is protected"),
        "outlet-in-use": N_("Outlet is being switched"),
        "power-cycle-limit": N_("Limit of power cycles reached"),
        "client-starting": N_("Client is starting"),
        "outlet-fault": N_("Outlet cannot be used"),
        "too-many-streams": N_("Too many live views"),
        "query-too-expensive": N_("Too expensive for the database"),
        "store-unavailable": N_("Database not available"),
        "internal-error": N_("Internal error"),
        "not-ready": N_("Not ready"),
        "bad-request": N_("Bad request"),
        "method-not-allowed": N_("Method not allowed"),
        "request-timeout": N_("Request timed out"),
        "body-too-large": N_("Body too large"),
        "unsupported-media-type": N_("Unsupported media type"),
    }
)
"""By the slug of the problem."""

ERRORS: Table = MappingProxyType(
    {
        ErrorCode.WRONG_FIELD: N_("%(field)s: %(fault)s."),
        ErrorCode.WRONG_FIELDS: N_("Wrong input: %(fields)s."),
        ErrorCode.UNREADABLE_BODY: N_(
            "The body is not what its headers say: length, chunks or Content-Encoding."
        ),
        ErrorCode.CODE_NEEDED: N_("A code of the second factor is needed as well."),
        ErrorCode.WRONG_CODE: N_("The code is wrong, or was used before."),
        ErrorCode.SIGN_IN_EXPIRED: N_("This sign-in has expired. Sign in again."),
        ErrorCode.IDENTITY_REFUSED: N_("Single sign-on did not succeed. Try again."),
        ErrorCode.IDENTITY_NAME: N_("The user name “%(name)s” cannot be used here."),
        ErrorCode.IDENTITY_NAME_TAKEN: N_(
            "There is a local account “%(name)s” already. An administrator must remove it first."
        ),
        ErrorCode.NO_ROLE_HERE: N_("You are in no group that has access here."),
        ErrorCode.PROVIDER_UNAVAILABLE: N_(
            "Single sign-on is not available at present. Sign in with a local account."
        ),
        ErrorCode.NO_FACTOR: N_("This user has no second factor."),
        ErrorCode.NO_FACTOR_OFFERED: N_("Setting up the second factor took too long. Begin again."),
        ErrorCode.FACTOR_NOT_SET_UP: N_(
            "This role needs a second factor, and none is set up yet. Sign in with a browser to set it up."
        ),
        ErrorCode.FACTOR_REQUIRED: N_("This role needs a second factor; it can be replaced but not removed."),
        ErrorCode.NO_CLIENT: N_("There is no client %(uuid)s."),
        ErrorCode.NO_COMMAND: N_("There is no command %(id)s."),
        ErrorCode.NO_BULK_ACTION: N_("There is no bulk action %(id)s."),
        ErrorCode.NO_INCIDENT: N_("There is no incident %(id)s."),
        ErrorCode.NO_SCREENSHOT: N_("This client has not sent a screenshot yet."),
        ErrorCode.NO_SITE: N_("No client is at a site “%(site)s”."),
        ErrorCode.NO_USER: N_("There is no such user."),
        ErrorCode.NO_TOKEN: N_("There is no token %(id)s."),
        ErrorCode.NO_SESSION: N_("There is no such session."),
        ErrorCode.NO_FILE: N_("There is no such file."),
        ErrorCode.NOT_A_UUID: N_("There is nothing of that name; a UUID belongs here."),
        ErrorCode.NOT_A_NUMBER: N_("There is nothing of that name; a number belongs here."),
        ErrorCode.NO_SUCH_PAGE: N_("There is nothing at this address."),
        ErrorCode.SIGN_IN: N_("Sign in, or send an API token."),
        ErrorCode.WRONG_CREDENTIALS: N_("The user name or the password is wrong."),
        ErrorCode.PASSWORD_CHANGED: N_("The password was changed just now."),
        ErrorCode.ACCESS_ENDED: N_("The session or token has ended."),
        ErrorCode.ROLE_TOO_LOW: N_("This needs the role %(needed)s; yours is %(role)s."),
        ErrorCode.TOKEN_MANAGES_NO_ACCOUNTS: N_(
            "This token does not manage users, tokens, sessions or passwords. Sign in, or make a token with "
            "manages_accounts."
        ),
        ErrorCode.PEOPLE_ONLY: N_("Only people have an account, a password and tokens."),
        ErrorCode.TOKENS_FOR_OTHERS: N_("Only an administrator makes tokens for others."),
        ErrorCode.TOKEN_OUTLIVES: N_(
            "A token that ends at %(ends_at)s makes no token that lives longer; give expires_at."
        ),
        ErrorCode.TOKEN_ROLE_TOO_HIGH: N_(
            "The role %(role)s is too high for this token; at most %(highest)s."
        ),
        ErrorCode.FORCE_NEEDS_ADMIN: N_("Only an administrator may override the lockout."),
        ErrorCode.METRICS_FOR_HOST_ONLY: N_(
            "Metrics are only available from this host, or with METRICS_TOKEN as a bearer token."
        ),
        ErrorCode.OTHER_SITE: N_("The request was sent by a page of another site."),
        ErrorCode.NO_ORIGIN: N_(
            "Neither Sec-Fetch-Site nor Origin was sent. Programs use an API token instead."
        ),
        ErrorCode.FOREIGN_ORIGIN: N_("The Origin is neither the public origin nor the host that was asked."),
        ErrorCode.TOO_MANY_ATTEMPTS: N_("Too many failed attempts. Try again in %(seconds)s s."),
        ErrorCode.SIGN_INS_WAITING: N_("Too many people are signing in at the moment. Try again."),
        ErrorCode.NO_MEMORY_FOR_PASSWORD: N_("There is not enough memory to check a password. Try again."),
        ErrorCode.USER_EXISTS: N_("There is already a user %(username)s."),
        ErrorCode.DEVICE_HAS_ACCOUNT: N_(
            "%(uuid)s has an account at the broker already. Give it a new password only if the client was "
            "set up again: the old one ends at once."
        ),
        ErrorCode.HELPER_MISSING: N_(
            "No broker helper answers on this host. On the broker's host, run as root: "
            "infoscreen broker add-device %(uuid)s --output enrolment"
        ),
        ErrorCode.HELPER_UNABLE: N_(
            "The broker helper could not do it. On the broker's host, "
            "`journalctl -u infoscreen-broker-helper` says why."
        ),
        ErrorCode.ENROLMENT_OFF: N_("One-time codes are switched off (ENROLMENT_CODES_ENABLED)."),
        ErrorCode.ENROLMENT_NEEDS_HTTPS: N_(
            "This shows or takes a password, so it needs https, or a browser on the server itself."
        ),
        ErrorCode.WRONG_ENROLMENT_CODE: N_(
            "The code is wrong, has expired, was used by another client or is for another one."
        ),
        ErrorCode.TOO_MANY_ENROLMENT_CODES: N_(
            "%(most)s codes are open. Wait until they have expired or were used."
        ),
        ErrorCode.LAST_ADMIN: N_("%(username)s is the last administrator. Make another one first."),
        ErrorCode.NOT_QUEUED: N_(
            "Only a command that has not been sent can be cancelled. This one is: %(status)s."
        ),
        ErrorCode.COMMAND_IN_FLIGHT: N_("The client already has an unfinished command: %(action)s."),
        ErrorCode.REQUESTED_AT_ONCE: N_("Another command was requested at the same time."),
        ErrorCode.LOCKED_OUT: N_(
            "Too many disruptive commands in a short time; the client is locked to protect it."
        ),
        ErrorCode.NO_OUTLET: N_("No outlet is configured for client %(uuid)s."),
        ErrorCode.OUTLET_SHARED: N_(
            "Other clients have the same outlet (%(clients)s). Say that it is shared if that is so."
        ),
        ErrorCode.OUTLET_PROTECTED: N_(
            "The outlet is protected: it also feeds what must not be switched off."
        ),
        ErrorCode.OUTLET_FEEDS_OTHERS: N_(
            "The outlet also feeds other clients (%(clients)s), which would go dark. It is switched when all "
            "of them are silent, or when an administrator overrides this with a reason."
        ),
        ErrorCode.OUTLET_IN_USE: N_("A power cycle of this outlet is already under way."),
        ErrorCode.POWER_CYCLES_USED: N_(
            "The outlet was power cycled %(most)s times within a day, which is the limit. The next one is "
            "possible from %(until)s."
        ),
        ErrorCode.CLIENT_STARTING: N_(
            "The client is starting or updating; cutting its power now could damage it."
        ),
        ErrorCode.ONE_CLIENT_ONLY: N_("%(action)s is possible for one client at a time only."),
        ErrorCode.OUTLET_FAULT: N_("The outlet cannot be used: %(fault)s (%(said)s)."),
        ErrorCode.OUTLETS_BUSY: N_("Other outlets are being tested. Try again in a few seconds."),
        ErrorCode.NOT_GIVEN_UP: N_(
            "The automatic recovery has not given up on this client: nothing to acknowledge."
        ),
        ErrorCode.NOTHING_WRONG: N_("Nothing is wrong with this client: nothing to acknowledge."),
        ErrorCode.INCIDENT_OVER: N_("This incident is over already."),
        ErrorCode.STREAMS_OF_USER: N_(
            "You have %(streams)s live views open, which is the most for one user. Close some."
        ),
        ErrorCode.STREAMS_OPEN: N_("There are already %(streams)s live views open. Try again later."),
        ErrorCode.NO_SITE_ID: N_("There is no site %(id)s."),
        ErrorCode.SITE_EXISTS: N_("There is already a site “%(name)s”."),
        ErrorCode.SITE_IN_USE: N_("%(clients)s clients are at this site. Give them another site first."),
        ErrorCode.NO_CHANNEL: N_("There is no channel %(id)s."),
        ErrorCode.NO_RULE: N_("There is no rule %(id)s."),
        ErrorCode.CHANNEL_EXISTS: N_("There is already a channel “%(name)s”."),
        ErrorCode.RULE_EXISTS: N_("There is already a rule “%(name)s”."),
        ErrorCode.TOO_MANY_CHANNELS: N_("No more than %(most)s are possible."),
        ErrorCode.NOTIFY_EXTRA_MISSING: N_(
            "Apprise is not installed on the server. Install infoscreen with the extra notify: "
            "pip install infoscreen[notify]."
        ),
        ErrorCode.NO_SECRETS_KEY: N_(
            "SECRETS_KEY is not set, so secrets can neither be stored nor read. Set it and restart the "
            "server."
        ),
        ErrorCode.SECRET_OF_OTHER_KEY: N_(
            "This secret was stored with another key (%(key)s). Add that key to SECRETS_KEY, or enter the "
            "secret again."
        ),
        ErrorCode.SECRET_DAMAGED: N_("The stored secret is damaged. Enter it again."),
        ErrorCode.QUERY_TOO_EXPENSIVE: N_(
            "This takes the database too long. Ask for less: a smaller page, or narrower filters."
        ),
        ErrorCode.STORE_UNAVAILABLE: N_(
            "The database does not answer at the moment and nothing was changed; try again."
        ),
        ErrorCode.STORE_OUTCOME_UNKNOWN: N_(
            "The database stopped answering while the change was stored: it may have been made or not. "
            "Look before you repeat it."
        ),
        ErrorCode.INTERNAL: N_("Something went wrong here. The log has the reason under the request id."),
        ErrorCode.NOT_READY: N_("Missing: %(missing)s."),
        ErrorCode.BAD_REQUEST: N_("The request is not valid HTTP, or one of its lines is too long."),
        ErrorCode.METHOD_NOT_ALLOWED: N_("This address does not know that method."),
        ErrorCode.REQUEST_TIMEOUT: N_("The request did not arrive in time."),
        ErrorCode.BODY_TOO_LARGE: N_("The body is longer than is allowed here."),
        ErrorCode.UNSUPPORTED_MEDIA_TYPE: N_(
            "Send application/json, forms as application/x-www-form-urlencoded, both in UTF-8."
        ),
        ErrorCode.HTTP_STATUS: N_("The server refuses the request: %(phrase)s."),
    }
)

FAULTS: Table = MappingProxyType(
    {
        FieldFault.MISSING: N_("is required"),
        FieldFault.UNKNOWN: N_("is not known here; allowed: %(allowed)s"),
        FieldFault.NO_FIELDS_ALLOWED: N_("is not known here; nothing is allowed"),
        FieldFault.GIVEN_TWICE: N_("is given %(times)s times; allowed once"),
        FieldFault.NOT_STORABLE: N_("holds NUL or an unpaired surrogate; allowed is Unicode text"),
        FieldFault.NOT_TEXT: N_("must be text"),
        FieldFault.TOO_SHORT: N_("must have at least %(least)s characters"),
        FieldFault.TOO_LONG: N_("must have at most %(most)s characters"),
        FieldFault.FORBIDDEN_CHARACTERS: N_("has characters that are not allowed"),
        FieldFault.NOT_A_NUMBER: N_("must be a number"),
        FieldFault.NOT_AN_INTEGER: N_("must be a whole number"),
        FieldFault.NOT_FINITE: N_("must be a finite number"),
        FieldFault.NOT_MORE: N_("must be greater than %(than)s"),
        FieldFault.TOO_SMALL: N_("must be at least %(least)s"),
        FieldFault.NOT_LESS: N_("must be less than %(than)s"),
        FieldFault.TOO_LARGE: N_("must be at most %(most)s"),
        FieldFault.NOT_A_BOOLEAN: N_("must be true or false"),
        FieldFault.NOT_ONE_OF: N_("must be one of: %(allowed)s"),
        FieldFault.NO_SUCH_STATUS: N_("there is no such status: %(given)s"),
        FieldFault.NOT_A_LIST: N_("must be a list"),
        FieldFault.NOT_AN_OBJECT: N_("must be an object"),
        FieldFault.TOO_FEW_ITEMS: N_("must have at least %(least)s items"),
        FieldFault.TOO_MANY_ITEMS: N_("must have at most %(most)s items"),
        FieldFault.NOT_A_TIME: N_("must be a time in ISO 8601"),
        FieldFault.NO_TIME_ZONE: N_("must have a time zone"),
        FieldFault.YEAR_NOT_ALLOWED: N_("must be in the years %(first)s to %(last)s"),
        FieldFault.NOT_JSON: N_("is not valid JSON"),
        FieldFault.NOT_A_UUID: N_("must be a UUID: 32 hexadecimal digits, with or without hyphens"),
        FieldFault.NOT_A_USER_NAME: N_("must be 1 to 100 letters, digits or any of . _ @ -"),
        FieldFault.NOT_A_TOKEN_NAME: N_("must be 1 to %(most)s printable characters"),
        FieldFault.PASSWORD_LENGTH: N_("has %(length)s characters; %(least)s to %(most)s are allowed"),
        FieldFault.PASSED: N_("%(at)s has passed; it must be in the future"),
        FieldFault.NOT_AFTER: N_("must be after %(at)s"),
        FieldFault.NOT_WITHIN: N_("must be after %(at)s and at most %(days)s days away"),
        FieldFault.REASON_NEEDED: N_("must not be empty"),
        FieldFault.REASON_NEEDED_TO_FORCE: N_("is required to override the lockout"),
        FieldFault.SCOPE_NEEDS_IT: N_("is required with the scope %(scope)s"),
        FieldFault.SCOPE_FORBIDS_IT: N_("is not allowed with the scope %(scope)s"),
        FieldFault.NOT_CAPABLE: N_("the client has not announced that it can do this: %(action)s"),
        FieldFault.FOREIGN_CURSOR: N_("must be next_cursor of the page before, unchanged"),
        FieldFault.CLIENTS_OR_FILTER: N_("exactly one of client_uuids and filter is required"),
        FieldFault.NOT_A_CHANNEL_URL: N_("is not understood by Apprise"),
        FieldFault.NOT_A_WEBHOOK_URL: N_("must be https://HOST/... or http://HOST/..."),
        FieldFault.NO_SUCH_CHANNEL: N_("there is no channel %(id)s"),
        FieldFault.NO_SUCH_TIME_ZONE: N_("is not the name of a time zone, such as Europe/Berlin"),
        FieldFault.NO_SUCH_COUNTRY: N_("is not the code of a country with known holidays, such as DE"),
        FieldFault.NO_SUCH_SITE: N_("there is no site %(id)s"),
        FieldFault.NOT_OPENING_HOURS: N_(
            "is not opening hours such as “Mo-Fr 08:00-18:00”, from column %(column)s: “%(part)s”"
        ),
        FieldFault.NOT_BOTH: N_("must be given together with %(other)s"),
        FieldFault.NEEDS_OTHER: N_("is only allowed together with %(other)s"),
        FieldFault.OTHER: N_("is not valid (%(rule)s)"),
    }
)

DEFECTS: Table = MappingProxyType(
    {
        MessageDefect.TOO_LARGE: N_("%(bytes)s bytes, allowed are %(most)s"),
        MessageDefect.TOO_MANY_PIXELS: N_("%(width)s x %(height)s pixels, allowed are %(most)s"),
        MessageDefect.NOT_AN_IMAGE: N_("neither a whole JPEG nor a whole PNG"),
        MessageDefect.NOT_PRESENCE: N_("the presence is neither “online” nor “offline”"),
        MessageDefect.NOT_JSON: N_("not valid JSON at character %(character)s"),
        MessageDefect.NOT_AN_OBJECT: N_("not a JSON object"),
        MessageDefect.TEXT_BEHIND: N_("more text behind the JSON object, at character %(character)s"),
        MessageDefect.WRONG_FIELD: N_("%(field)s %(fault)s"),
        MessageDefect.UUID_MISMATCH: N_("the payload names %(payload)s, the topic %(topic)s"),
        MessageDefect.UNKNOWN_TOPIC: N_("not a client topic of the contract: %(topic)s"),
        MessageDefect.BAD_UUID: N_("not a UUID in lower case with hyphens: %(given)s"),
        MessageDefect.UNKNOWN_CLIENT: N_(
            "no such client, and clients are not registered automatically (AUTO_REGISTER_CLIENTS)"
        ),
        MessageDefect.UNKNOWN_COMMAND: N_("there is no command %(command_id)s"),
        MessageDefect.FOREIGN_COMMAND: N_("command %(command_id)s belongs to another client"),
        MessageDefect.TEXT: N_("%(text)s"),
    }
)

GIVEN = N_("%(fault)s; given %(given)s")


def title(slug: str, status: int, language: Language | None = None) -> str:
    """Return the title of a problem."""
    language = language or spoken()
    known = TITLES.get(slug)
    return HTTPStatus(status).phrase if known is None else language.gettext(known)
