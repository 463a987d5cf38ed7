"""Delivering for real: a process for each message, against receivers on loopback that may misbehave."""

import asyncio
import hashlib
import hmac
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP as SmtpServer
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.clock import SystemClock
from infoscreen.domain.alerts import Severity
from infoscreen.domain.notifying import ChannelKind, DeliveryFault, NoticeStep
from infoscreen.domain.recovery import Closing, Incident, IncidentKind
from infoscreen.domain.targets import is_public
from infoscreen.notify import process
from infoscreen.notify.deadman import DeadMan
from infoscreen.notify.process import ProcessSender, redacted, waiting_time
from infoscreen.notify.rendering import rendered, webhook_payload
from infoscreen.pki.authority import Authority
from infoscreen.services.ports import Delivered, Notice, Receiver
from tests.receivers import http_receiver

BEGAN = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
ORIGIN = "https://panel.example"
OUTAGE = Incident(key="o", kind=IncidentKind.SITE_OUTAGE, began_at=BEGAN, site="Messe", members=40)
NOTICE = Notice(
    message_id="11111111-1111-4111-8111-111111111111",
    step=NoticeStep.OPENED,
    number=0,
    severity=Severity.WARNING,
    created_at=BEGAN,
    incident=OUTAGE,
    incident_id=7,
    clients=[f"Foyer {number}" for number in range(20)],
)


def sender(*, allow_private: bool = True) -> ProcessSender:
    return ProcessSender(SystemClock(), ORIGIN, allow_private=allow_private)


async def send(url: str, secret: str | None = None, *, allow_private: bool = True) -> Delivered:
    kind = ChannelKind.WEBHOOK if url.startswith("http") else ChannelKind.APPRISE
    return await sender(allow_private=allow_private).send(Receiver(kind, url, secret, "en"), NOTICE)


def test_a_message_names_twenty_clients_and_counts_the_rest() -> None:
    title, text = rendered(NOTICE, "en", ORIGIN)
    assert title == "Outage of Messe"
    assert "40 clients: Foyer 0, Foyer 1," in text
    assert "Foyer 19 and 20 more." in text
    assert f"{ORIGIN}/incidents/7" in text
    title, text = rendered(NOTICE, "de", ORIGIN)
    assert "und 20 weitere" in text
    assert "UTC" in text


@pytest.mark.parametrize("code", ["de", "en"])
@pytest.mark.parametrize("kind", IncidentKind)
@pytest.mark.parametrize("step", NoticeStep)
def test_every_kind_and_step_has_a_text(code: str, kind: IncidentKind, step: NoticeStep) -> None:
    ended = (
        {"ended_at": BEGAN + timedelta(hours=1), "closing": Closing.OVER}
        if step is NoticeStep.RESOLVED
        else {}
    )
    incident = Incident(key="k", kind=kind, began_at=BEGAN, **ended)  # type: ignore[arg-type]
    of_incident = step not in (NoticeStep.TEST, NoticeStep.TEXT, NoticeStep.SUMMARY)
    notice = Notice(
        message_id=NOTICE.message_id,
        step=step,
        number=0,
        severity=Severity.CRITICAL,
        created_at=BEGAN,
        incident=incident if of_incident else None,
        text="hello" if step is NoticeStep.TEXT else None,
        counts={"client opened": 2_000, "other test": 1} if step is NoticeStep.SUMMARY else {},
    )
    title, text = rendered(notice, code, None)
    assert title
    assert text
    assert "%(" not in title + text
    assert webhook_payload(notice, code, ORIGIN, BEGAN)["step"] == step.value


async def test_the_webhook_can_be_checked_with_the_lines_of_the_documentation() -> None:
    async with http_receiver() as receiver:
        outcome = await send(f"http://{receiver.host}/hook?x=1", "shared secret")
    assert (outcome.ok, outcome.status) == (True, 200)
    (request,) = receiver.got
    document = (Path(__file__).parent.parent / "docs" / "notifications.md").read_text(encoding="utf-8")
    lines = document.split("```python\n")[1].split("```")[0]
    checked: dict[str, object] = {}
    exec(lines, checked)  # noqa: S102 - the documentation's own lines
    is_genuine = checked["is_genuine"]
    assert callable(is_genuine)
    body, signature = request.body.encode(), request.headers["X-Infoscreen-Signature"]
    assert is_genuine(b"shared secret", body, signature)
    assert not is_genuine(b"other secret", body, signature)
    assert not is_genuine(b"shared secret", body + b" ", signature)
    old = body.replace(request.json["sent_at"].encode(), b"2020-01-01T00:00:00Z")
    signed = "sha256=" + hmac.new(b"shared secret", old, hashlib.sha256).hexdigest()
    assert not is_genuine(b"shared secret", old, signed)
    assert request.path == "/hook?x=1"
    assert request.headers["X-Infoscreen-Message-Id"] == request.json["message_id"] == NOTICE.message_id
    assert request.json["incident"]["members"] == 40
    assert request.json["url"] == f"{ORIGIN}/incidents/7"


SCHEMES = {
    "ntfy://{host}/topic-1": ("POST", "/"),
    "gotify://{host}/token-123456": ("POST", "/message"),
    "json://user:pass-word@{host}/j": ("POST", "/j"),
    "xml://{host}/x": ("POST", "/x"),
    "form://{host}/f": ("POST", "/f"),
    "mmost://{host}/tokenabcdef12345678901234": ("POST", "/hooks/tokenabcdef12345678901234"),
    "apprise://{host}/key-token-1": ("POST", "/notify"),
    "bark://{host}/device-key": ("POST", "/push"),
    "hassio://{host}/long-access-token": ("POST", "/api/services/persistent_notification/create"),
    "nctalk://user:pass@{host}/room1": ("POST", "/ocs/v2.php/apps/spreed/api/v1/chat/room1"),
    "signal://{host}/+12025550143/+12025550144": ("POST", "/v2/send"),
    "kodi://{host}": ("POST", "/jsonrpc"),
}


@pytest.mark.slow
async def test_twelve_kinds_of_channels_send_what_their_receivers_expect() -> None:
    two = asyncio.Semaphore(2)

    async def try_one(template: str, method: str, path: str) -> None:
        async with two, http_receiver() as receiver:
            outcome = await send(template.format(host=receiver.host))
        assert outcome == Delivered(ok=True, status=200), template
        assert [(one.method, one.path) for one in receiver.got] == [(method, path)]
        assert "Outage" in receiver.got[0].body

    await asyncio.gather(*(try_one(url, *wanted) for url, wanted in SCHEMES.items()))


class Mailbox:
    """What a mail server keeps."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []

    async def handle_DATA(self, server: SmtpServer, session: Session, envelope: Envelope) -> str:
        if not session.authenticated:
            return "530 log in first"
        self.got.append(envelope)
        return "250 OK"


def _authenticated(
    server: object, session: object, envelope: object, mechanism: str, data: object
) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"user", b"s3cr3t-pass")
    return AuthResult(success=right, handled=True)


def tls_of(directory: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context and the bundle of its CA."""
    now = SystemClock().now()
    authority = Authority.create(directory / "pki", now)
    issued = authority.issue_server(list(names), now)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)
    return context, authority.bundle


async def test_mail_goes_out_with_tls_and_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, bundle = tls_of(tmp_path, "localhost", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    mailbox = Mailbox()

    def connected() -> SmtpServer:
        return SmtpServer(mailbox, authenticator=_authenticated, auth_require_tls=False)

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = "mailtos://user:{}@localhost:" + str(port) + "?from=a@example.org&to=b@example.org&mode=ssl"
        good = await send(url.format("s3cr3t-pass"))
        bad = await send(url.format("wr0ng-pass"))
        monkeypatch.delenv("SSL_CERT_FILE")
        distrusted = await send(url.format("s3cr3t-pass"))
    assert good.ok, good
    assert (bad.ok, bad.fault, distrusted.ok) == (False, DeliveryFault.FAILED, False)
    assert "wr0ng" not in bad.detail
    (mail,) = mailbox.got
    assert mail.rcpt_tos == ["b@example.org"]


async def test_a_wrong_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, bundle = tls_of(tmp_path, "localhost")
    async with http_receiver(context) as receiver:
        port = receiver.host.partition(":")[2]
        unknown = await send(f"https://localhost:{port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        other_name = await send(f"https://127.0.0.1:{port}/")
        assert (unknown.ok, other_name.ok, receiver.got) == (False, False, [])
        known = await send(f"https://localhost:{port}/")
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.detail
    assert known.ok


async def test_a_redirect_is_not_followed() -> None:
    async with http_receiver() as other, http_receiver() as receiver:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"http://{other.host}/"})

        receiver.answer = redirect
        outcome = await send(f"http://{receiver.host}/")
    assert (outcome.ok, outcome.status, other.got) == (False, 307, [])


@pytest.mark.parametrize(
    "url", ["http://{host}/", "http://localhost:{port}/", "ntfy://localhost:{port}/topic1"]
)
async def test_private_addresses_are_refused_at_the_connection(url: str) -> None:
    async with http_receiver() as receiver:
        port = receiver.host.partition(":")[2]
        outcome = await send(url.format(host=receiver.host, port=port), allow_private=False)
    assert (outcome.ok, outcome.fault, receiver.got) == (False, DeliveryFault.PRIVATE_TARGET, [])


SEVERAL_ADDRESSES = """
import socket
import sys
from infoscreen.notify.sender import deliver

port = int(sys.argv[1])
internet, local = (socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, "/nowhere")
found = [(family, socket.SOCK_STREAM, 0, "", address) for family, address in (local, internet)]
socket.getaddrinfo = lambda *_, **__: found
order = {"kind": "webhook", "url": f"http://name.example:{port}/", "allow_private": True}
order |= {"body": "{}", "headers": {}}
print(deliver(order)["ok"])
"""
"""A name with two addresses, of which the first one is refused."""


async def test_what_arrived_at_the_second_address_of_a_name_is_not_sent_again() -> None:
    async with http_receiver() as receiver:
        port = receiver.host.rpartition(":")[2]
        program = (sys.executable, "-c", SEVERAL_ADDRESSES, port)
        done = await asyncio.to_thread(subprocess.run, program, capture_output=True, text=True, check=True)
    assert len(receiver.got) == 1
    assert done.stdout == "True\n"


async def test_what_a_receiver_asks_for_is_handed_on() -> None:
    async with http_receiver() as receiver:

        async def busy(request: web.Request) -> web.StreamResponse:
            return web.Response(status=429, headers={"Retry-After": "77"}, text="slow down")

        receiver.answer = busy
        webhook = await send(f"http://{receiver.host}/")
        apprise = await send(f"json://{receiver.host}/")
    for outcome in (webhook, apprise):
        assert (outcome.ok, outcome.status, outcome.retry_after) == (False, 429, timedelta(seconds=77))
    assert webhook.detail == "slow down"


@pytest.mark.parametrize("scheme", ["http", "json"])
async def test_a_receiver_that_hangs_drips_or_floods_is_left(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LIMIT_SECONDS", 6.0)

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.2)

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 2**16)

    async with http_receiver() as receiver:
        for answer in (hang, drip, flood):
            receiver.answer = answer
            outcome = await send(f"{scheme}://{receiver.host}/")
            assert not outcome.ok or answer is flood, answer
            assert len(outcome.detail) <= process.MOST_DETAIL


async def test_nobody_listening_is_a_failure_with_a_reason() -> None:
    outcome = await send("http://127.0.0.1:9/")
    assert (outcome.ok, outcome.fault) == (False, DeliveryFault.FAILED)
    assert "refused" in outcome.detail


WORKFLOW = "workflows://localhost/workflow/signature"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@pytest.mark.parametrize(
    "url",
    [
        f"{WORKFLOW}?Template=/etc/passwd",
        f"{WORKFLOW}?a=b;template=/etc/passwd",
        f"{WORKFLOW}#x?template=/etc/passwd",
        f"{SLACK}/#general?template=/etc/passwd",
        f"{SLACK}/#general?template%20=/etc/passwd",
    ],
)
async def test_no_file_of_this_host_is_sent_as_a_template(url: str) -> None:
    answer = await sender().check(ChannelKind.APPRISE, url)
    assert (answer.ok, answer.fault) == (False, DeliveryFault.NOT_UNDERSTOOD)
    assert (await sender().check(ChannelKind.APPRISE, url.partition("?")[0])).ok


async def test_an_apprise_url_is_checked_without_connecting() -> None:
    async with http_receiver() as receiver:
        good = await sender().check(ChannelKind.APPRISE, f"ntfy://{receiver.host}/topic1")
        bad = await sender().check(ChannelKind.APPRISE, "nosuchscheme://host/secret-part")
    assert (good.ok, bad.ok, bad.fault) == (True, False, DeliveryFault.NOT_UNDERSTOOD)
    assert "secret-part" not in bad.detail
    assert receiver.got == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *[(one, False) for one in ("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254")],
        *[
            (one, False)
            for one in (str(IPv4Address(0)), "::1", "::", "fe80::1%eth0", "fd00::1", "224.0.0.1", "ff02::1")
        ],
        *[(one, False) for one in ("::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "100.64.0.1")],
        *[(one, False) for one in ("localhost", "", "2130706433", "0x7f.1", "240.0.0.1", "255.255.255.255")],
        *[(one, False) for one in ("fec0::1", "::127.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b:1::10.0.0.1")],
        *[(one, True) for one in ("9.9.9.9", "2620:fe::fe", "::ffff:9.9.9.9", "64:ff9b::9.9.9.9")],
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@settings(deadline=None, max_examples=50)
@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=4, max_size=30).filter(
        lambda word: word not in "example http https mailto slack said that failed"
    ),
    st.sampled_from(
        [
            "slack://{}/b/c",
            "mailto://u:{}@example.org",
            "https://h/{}?x=1",
            "ntfy://h/?token={}",
            "tgram://1:{}/2",
        ]
    ),
)
def test_no_part_of_a_url_comes_back(secret: str, template: str) -> None:
    url = template.format(secret)
    text = redacted(f"POST {url} failed: '{secret}'\nsaid that", url)
    assert secret not in text
    assert text.isprintable()


@pytest.mark.parametrize("url", ["mailto://u:[password@host", "mailto://u:password\u2100@host"])
def test_a_url_that_python_cannot_split_is_masked_as_well(url: str) -> None:
    assert "password" not in redacted(f"cannot send to {url}: password", url)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *[("120", 120), ("Mon, 02 Mar 2026 07:01:00 GMT", 60), ("Mon, 02 Mar 2020 07:01:00 GMT", 0)],
        *[("soon", None), ("", None), ("-5", None), (None, None), ("9" * 50, 999_999_999), ("²", None)],
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
    ],
)
def test_how_long_a_receiver_wants_to_be_left_alone(header: str | None, seconds: int | None) -> None:
    wanted = None if seconds is None else timedelta(seconds=seconds)
    assert waiting_time(header, BEGAN) == wanted


def test_the_daemon_never_loads_apprise() -> None:
    script = (
        "import sys, infoscreen.app; print({'apprise', 'requests', 'cryptography.fernet'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert loaded.stdout == "set()\n"


async def test_the_sign_of_life_is_given_only_while_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    well = True

    async def is_well() -> bool:
        return well

    async with http_receiver() as receiver:
        dead_man = DeadMan(f"http://{receiver.host}/ping/s3cr3t-key", SystemClock(), is_well)
        assert await dead_man.step()
        well = False
        assert not await dead_man.step()
        assert [(one.method, one.path) for one in receiver.got] == [("GET", "/ping/s3cr3t-key")]
        well = True
    assert not await dead_man.step()  # nobody listens any more
    assert "s3cr3t-key" not in caplog.text
    assert "the sign of life was not taken" in caplog.text
