"""The private CA: OpenSSL and Python's ssl take what it issues, and its directory survives accidents."""

import json
import multiprocessing
import os
import shutil
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infoscreen.cli import cli
from infoscreen.domain.certificates import Lifetime, Validity
from infoscreen.domain.errors import PkiError
from infoscreen.pki import files
from infoscreen.pki.authority import Authority, Due, Kind, RollOver
from infoscreen.pki.certificates import names_of
from infoscreen.pki.files import Access
from infoscreen.pki.names import server_names
from tests.programs import require

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
DEVICE = "3f2b8c1e-0000-4000-8000-000000000001"
NAMES = ["broker.example.org", "127.0.0.1", "::1", "*.sites.example.org"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", NOW)


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(bundle: Path, certificate: Path, *options: str) -> None:
    """Ask openssl, in its strict mode; fail with what it says."""
    command = [require("openssl"), "verify", "-x509_strict", "-check_ss_sig", "-CAfile", bundle, *options]
    done = subprocess.run([*command, certificate], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Make a TLS connection in memory; return the client's side, or raise what it raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one


def server_context(authority: Authority, label: str = "server") -> ssl.SSLContext:
    pair = authority.pair(Kind.SERVER, label)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.bundle)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def client_context(bundle: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=bundle)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    return context


def test_openssl_takes_what_was_issued_in_its_strict_mode(authority: Authority) -> None:
    server = authority.issue_server(NAMES, NOW).certificate
    (client,) = authority.issue_clients([DEVICE], NOW)
    verify(authority.bundle, authority.directory / "ca.crt")
    verify(authority.bundle, server, "-purpose", "sslserver", "-verify_hostname", "broker.example.org")
    verify(authority.bundle, server, "-purpose", "sslserver", "-verify_ip", "::1")
    verify(authority.bundle, client.certificate, "-purpose", "sslclient")
    for certificate, purpose in ((server, "sslclient"), (client.certificate, "sslserver")):
        with pytest.raises(AssertionError, match="purpose"):
            verify(authority.bundle, certificate, "-purpose", purpose)
    with pytest.raises(AssertionError, match="hostname mismatch"):
        verify(authority.bundle, server, "-verify_hostname", "other.example.org")


def test_python_connects_by_every_name_and_to_no_other(authority: Authority) -> None:
    authority.issue_server(NAMES, NOW)
    (client,) = authority.issue_clients([DEVICE], NOW)
    server, visitor = server_context(authority), client_context(authority.bundle)
    server.verify_mode = ssl.CERT_REQUIRED
    visitor.load_cert_chain(client.certificate, client.key)
    for name in ("broker.example.org", "127.0.0.1", "::1", "7.sites.example.org"):
        assert shake_hands(server, visitor, name).version() == "TLSv1.3"
    for name in ("example.org", "127.0.0.2", "a.7.sites.example.org"):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, visitor, name)


def test_the_certificates_say_what_they_may_be_used_for(authority: Authority) -> None:
    ca = loaded(authority.directory / "ca.crt")
    leaf = loaded(authority.issue_server(NAMES, NOW).certificate)
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert ca.not_valid_after_utc - NOW == 3650 * DAY
    assert leaf.not_valid_after_utc - NOW == 365 * DAY
    assert NOW - leaf.not_valid_before_utc >= timedelta(minutes=5)
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    key_of_ca = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier
    assert (
        leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == key_of_ca
    )
    assert leaf.serial_number.bit_length() > 64


def test_no_certificate_outlives_its_ca(authority: Authority) -> None:
    late = NOW + 3600 * DAY
    leaf = loaded(authority.issue_server(NAMES, late).certificate)
    assert leaf.not_valid_after_utc == loaded(authority.directory / "ca.crt").not_valid_after_utc


def test_keys_are_readable_for_their_users_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        authority = Authority.create(tmp_path / "open", NOW)
        os.umask(0o077)
        pair = authority.issue_server(["localhost"], NOW, key_access=Access(0o640, group=os.getgid()))
        (client,) = authority.issue_clients([DEVICE], NOW)
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (authority.directory / "ca.key", pair.key, pair.certificate, client.key, authority.bundle)
    }
    assert modes == {
        "ca.key": 0o600,
        "server.key": 0o640,
        "server.crt": 0o644,
        f"{DEVICE}.key": 0o600,
        "ca-bundle.crt": 0o644,
    }
    assert stat.S_IMODE(pair.key.parent.stat().st_mode) == 0o755  # the broker's user must get there


def test_what_ends_within_thirty_days_is_renewed_and_keeps_names_key_owner_and_mode(
    authority: Authority,
) -> None:
    early = authority.issue_server(NAMES, NOW)
    late = authority.issue_server(["panel.example.org"], NOW + 100 * DAY, label="panel")
    early.key.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(early.key, 1234, 4321)
        os.chown(early.certificate, 1234, 4321)
    key, untouched = early.key.read_bytes(), late.certificate.read_bytes()
    assert authority.renew(NOW + 334 * DAY) == []
    now = NOW + 336 * DAY
    (renewed,) = authority.renew(now)
    assert (renewed.pair, renewed.kind, renewed.due) == (early, Kind.SERVER, Due.ENDS_SOON)
    assert loaded(early.certificate).not_valid_after_utc == now + 365 * DAY
    assert {*map(str, names_of(loaded(early.certificate)))} == {*NAMES}
    assert early.key.read_bytes() == key
    assert late.certificate.read_bytes() == untouched
    assert stat.S_IMODE(early.key.stat().st_mode) == 0o640
    if os.geteuid() == 0:
        assert (early.certificate.stat().st_uid, early.certificate.stat().st_gid) == (1234, 4321)
    assert authority.renew(now) == []
    (again,) = authority.renew(NOW + 670 * DAY, new_keys=True)[:1]
    assert again.pair.key.read_bytes() != key


def test_a_roll_over_keeps_every_client_connected_at_every_step(authority: Authority) -> None:
    authority.issue_server(["localhost"], NOW)
    (device,) = authority.issue_clients([DEVICE], NOW)
    old_bundle = client_context(authority.bundle)
    authority.begin_roll_over(NOW)
    assert authority.roll_over is RollOver.BEGUN
    assert shake_hands(server_context(authority), old_bundle, "localhost").version()  # nobody is in a hurry
    both = client_context(authority.bundle)
    both.load_cert_chain(device.certificate, device.key)  # still from the old CA
    renewed = authority.switch(NOW)
    assert [one.due for one in renewed] == [Due.OTHER_CA, Due.OTHER_CA]
    server = server_context(authority)
    server.verify_mode = ssl.CERT_REQUIRED
    assert shake_hands(server, both, "localhost").version()
    authority.finish()
    assert shake_hands(server_context(authority), both, "localhost").version()
    assert shake_hands(server_context(authority), client_context(authority.bundle), "localhost").version()
    assert not (authority.directory / "ca.key").exists()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(authority), old_bundle, "localhost")
    verify(authority.bundle, authority.pair(Kind.SERVER, "server").certificate)


@pytest.mark.parametrize("switched", [False, True])
def test_a_roll_over_can_be_taken_back(authority: Authority, switched: bool) -> None:
    authority.issue_server(["localhost"], NOW)
    old = client_context(authority.bundle)
    authority.begin_roll_over(NOW)
    if switched:
        authority.switch(NOW)
    authority.abort(NOW)
    assert authority.roll_over is RollOver.NONE
    assert shake_hands(server_context(authority), old, "localhost").version()
    assert authority.bundle.read_bytes() == (authority.directory / "ca.crt").read_bytes()
    authority.begin_roll_over(NOW)
    assert (authority.directory / "ca-3.key").exists()  # a name is never used twice


def test_steps_of_a_roll_over_out_of_order_are_refused_and_change_nothing(authority: Authority) -> None:
    authority.issue_server(["localhost"], NOW)

    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in authority.directory.rglob("*") if path.is_file()}

    before = content()
    for step in (lambda: authority.switch(NOW), authority.finish, lambda: authority.abort(NOW)):
        with pytest.raises(PkiError):
            step()
    assert content() == before
    authority.begin_roll_over(NOW)
    before = content()
    for step in (lambda: authority.begin_roll_over(NOW), authority.finish):
        with pytest.raises(PkiError):
            step()
    assert content() == before


def test_the_old_ca_stays_while_a_certificate_is_from_it(authority: Authority) -> None:
    pair = authority.issue_server(["localhost"], NOW)
    old = pair.certificate.read_bytes()
    authority.begin_roll_over(NOW)
    authority.switch(NOW)
    pair.certificate.write_bytes(old)  # as a backup that was restored would
    with pytest.raises(PkiError, match="infoscreen pki renew"):
        authority.finish()
    assert [one.due for one in authority.renew(NOW)] == [Due.OTHER_CA]
    authority.finish()


def test_a_renewal_completes_what_was_interrupted(authority: Authority) -> None:
    pair = authority.issue_server(["localhost"], NOW)
    other = authority.issue_server(["localhost"], NOW, label="other")
    # Interrupted between key and certificate.
    shutil.copy(other.key, pair.key)
    assert "key" in str(authority.status()[2].note)
    assert [(one.pair.name, one.due) for one in authority.renew(NOW)] == [("server", Due.KEY_DOES_NOT_FIT)]
    server_context(authority)
    # Interrupted between the state and the certificates of a switch.
    state = authority.directory / "pki.json"
    authority.begin_roll_over(NOW)
    text = json.loads(state.read_text())
    state.write_text(json.dumps({**text, "signing": "ca-2"}))
    assert {one.due for one in authority.renew(NOW)} == {Due.OTHER_CA}
    authority.finish()
    # A key that is gone, or not a key.
    pair.key.unlink()
    other.key.write_text("no key")
    assert {one.due for one in authority.renew(NOW)} == {Due.KEY_DOES_NOT_FIT}
    server_context(authority)
    assert all(not entry.needs_action for entry in authority.status())


def test_a_damaged_directory_is_named_and_not_made_worse(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki", NOW)
    authority.issue_server(["localhost"], NOW)
    for name, content in (
        ("pki.json", "{}"),
        ("pki.json", "?"),
        ("ca.crt", "?"),
        ("ca.key", "?"),
        ("ca.key", None),
    ):
        copy = tmp_path / f"copy-{name}-{content}"
        shutil.copytree(authority.directory, copy)
        (copy / name).unlink()
        if content is not None:
            (copy / name).write_text(content)
        with pytest.raises(PkiError, match=name.replace(".", "[.]")):
            Authority(copy).issue_server(["localhost"], NOW)
        assert (copy / "server/server.crt").read_bytes() == (
            authority.directory / "server/server.crt"
        ).read_bytes()
    with pytest.raises(PkiError, match="already"):
        Authority.create(authority.directory, NOW)
    with pytest.raises(PkiError, match="pki init"):
        Authority(tmp_path / "nowhere").issue_server(["localhost"], NOW)
    assert not (tmp_path / "nowhere").exists()


def _issue_many(directory: Path, label: str) -> None:
    for _ in range(5):
        Authority(directory).issue_server([f"{label}.example.org"], NOW, label="shared")
        Authority(directory).issue_server([f"{label}.example.org"], NOW, label=label)
        Authority(directory).renew(NOW, within=400 * DAY, new_keys=True)


def test_programs_that_issue_at_once_leave_pairs_that_fit(authority: Authority) -> None:
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_issue_many, args=(authority.directory, f"w{number}")) for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert len(authority.status()) == 6
    assert all(not entry.needs_action for entry in authority.status())
    assert not list(authority.directory.rglob(".*"))


def test_a_replaced_file_is_never_seen_with_wider_access(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.replace(path, b"one", Access(0o600))
    with path.open("rb") as reader:
        files.replace(path, b"two", Access(0o640))
        assert reader.read() == b"one"
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(lambda one: not one[-1].isdigit())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("shared") / "pki", NOW)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.one_of(HOST, st.ip_addresses().map(str)), min_size=1, max_size=3))
def test_a_name_that_is_taken_can_be_connected_to(shared: Authority, names: list[str]) -> None:
    shared.issue_server(names, NOW)
    server, visitor = server_context(shared), client_context(shared.bundle)
    for name in names:
        assert shake_hands(server, visitor, name).version()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            "a b",
            "mqtts://broker",
            "broker:8883",
            "[::1]:8883",
            "10.0.0",
            "10.0.0.256",
            "fe80::1%eth0",
        ),
        *("*", "*.", "*.*.org", "a.*.org", "-a.org", "a-.org", "a..org", ".org", "x" * 64, "a\0b", "a\nb"),
        *(".".join(["a" * 60] * 5), "10.0.0.0/8", "user@host", "a,b"),
    ],
)
def test_a_name_that_no_client_connects_to_is_refused(name: str) -> None:
    with pytest.raises(PkiError) as refused:
        server_names([name])
    assert str(refused.value).isprintable()


def test_names_are_taken_as_people_write_them() -> None:
    found = server_names(["Broker.Example.ORG.", "bücher.example", "[::1]", "0:0::1", "broker.example.org"])
    assert [str(name) for name in found] == ["broker.example.org", "xn--bcher-kva.example", "::1"]


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (31 * DAY, Validity.VALID),
        (30 * DAY, Validity.EXPIRES_SOON),
        (8 * DAY, Validity.EXPIRES_SOON),
        (7 * DAY, Validity.EXPIRES_IN_DAYS),
        (timedelta(), Validity.EXPIRES_IN_DAYS),
        (-timedelta(seconds=1), Validity.EXPIRED),
        (366 * DAY, Validity.NOT_YET_VALID),
    ],
)
def test_what_the_dates_mean(left: timedelta, expected: Validity) -> None:
    life = Lifetime(NOW, NOW + 365 * DAY)
    assert life.at(life.not_after - left) is expected


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["pki", *arguments], env={"PKI_DIRECTORY": str(directory)})
    return done.exit_code, done.output


def test_the_command_line_goes_the_whole_way(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    code, said = run(directory, "issue-server", "localhost")
    assert (code, said.count("\n")) == (1, 1)
    assert "pki init" in said
    assert run(directory, "init")[0] == 0
    assert run(directory, "init")[0] == 1
    assert run(directory, "init", "--keep")[0] == 0
    assert run(directory, "issue-server", "localhost", "127.0.0.1", "--no-reload")[0] == 0
    issued = (directory / "server/server.crt").read_bytes()
    assert run(directory, "issue-server", "localhost", "--keep")[0] == 0
    assert (directory / "server/server.crt").read_bytes() == issued
    assert run(directory, "issue-client", DEVICE, "infoscreen-server")[0] == 0
    assert run(directory, "issue-client", "../../etc/passwd")[0] == 1
    assert "No certificate had to be renewed" in run(directory, "renew", "--no-reload")[1]
    assert run(directory, "renew", "--days", "366", "--no-reload")[1].count("Renewed ") == 3
    code, said = run(directory, "status", "--json")
    rows = json.loads(said)
    assert [row["which"] for row in rows] == [
        *("ca", "server/server"),
        *(f"clients/{DEVICE}", "clients/infoscreen-server"),
    ]
    assert {row["state"] for row in rows} == {"valid"}
    assert run(directory, "status", "--check")[0] == 0
    assert run(directory, "bundle")[1] == (directory / "ca.crt").read_text()
    for step in ("begin", "switch", "finish"):
        assert run(directory, "rotate-ca", step, "--no-restart")[0] == 0, step
    assert run(directory, "bundle", "--output", str(tmp_path / "for-clients.crt"))[0] == 0
    assert (tmp_path / "for-clients.crt").read_bytes() == (directory / "ca-2.crt").read_bytes()
    (directory / "server/server.key").chmod(0o644)
    code, said = run(directory, "status", "--check")
    assert (code, "everybody can read the key" in said) == (1, True)
    run(directory, "issue-server", "localhost", "--group", "no-such-group")
    assert run(directory, "issue-server", "localhost", "--group", "no-such-group")[0] == 1
