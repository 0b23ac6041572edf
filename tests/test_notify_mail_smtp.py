"""Mail by SMTP and by a command: what servers and commands answer, and for how long that is waited for."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from functional.services.certificates import Authority
from functional.services.mail import PASSWORD, USER, MailServer
from functional.services.ports import free_port
from gateway.config.mail import SELF_LOCAL, MailSettings
from gateway.notify.mail_command import send_by_command
from gateway.notify.mail_message import Mail
from gateway.notify.mail_result import MailResult
from gateway.notify.smtp import Unreachable, connect, send_by_smtp

MAIL = Mail("from@example.org", ("a@example.com",), "Hello\n.\nend", (("Subject", "s"),))
TWO = Mail("from@example.org", ("a@example.com", "b@example.com"), "Hello")


def settings(port: int, security: str = "none", **options: object) -> MailSettings:
    return MailSettings(SELF_LOCAL, "", "127.0.0.1", port, security, **{"timeout": 3.0, **options})  # type: ignore[arg-type]


def send(server: MailServer, mail: Mail = MAIL, security: str = "none", **options: object) -> MailResult:
    result = send_by_smtp(settings(server.port, security, **options), mail, lambda: True)
    assert result is not None
    return result


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_mail_arrives_with_its_envelope(server: MailServer) -> None:
    assert send(server) == MailResult(250, accepted=frozenset(MAIL.recipients))
    (mail,) = server.mails
    assert (mail.sender, mail.recipients, mail.text) == (MAIL.sender, list(MAIL.recipients), MAIL.text)
    assert mail.message["Subject"] == "s"


def test_nothing_is_sent_that_must_not_begin_any_more(server: MailServer) -> None:
    assert send_by_smtp(settings(server.port), MAIL, lambda: False) is None
    assert server.mails == []


@pytest.mark.parametrize("reply", ["421 closing", "450 later", "451 error", "452 full"])
def test_4xx_is_tried_again(server: MailServer, reply: str) -> None:
    status = int(reply[:3])
    server.on_data = lambda: reply
    assert send(server) == MailResult(status, "deferred", deferred=frozenset(MAIL.recipients))
    server.on_recipient = lambda address: reply
    assert send(server) == MailResult(status, "deferred", deferred=frozenset(MAIL.recipients))


@pytest.mark.parametrize("reply", ["550 unknown", "552 too large", "554 no"])
def test_5xx_is_not_tried_again(server: MailServer, reply: str) -> None:
    server.on_data = lambda: reply
    assert send(server) == MailResult(int(reply[:3]), "refused")
    server.on_recipient = lambda address: reply
    assert send(server) == MailResult(int(reply[:3]), "refused")


def test_one_recipient_does_not_keep_others_from_their_mail(server: MailServer) -> None:
    server.on_recipient = lambda address: "450 later" if address == "b@example.com" else "250 OK"
    assert send(server, TWO) == MailResult(450, "deferred", frozenset({"a@example.com"}), frozenset({"b@example.com"}))
    server.on_recipient = lambda address: "550 unknown" if address == "a@example.com" else "250 OK"
    assert send(server, TWO) == MailResult(250, "", frozenset({"b@example.com"}))
    assert [mail.recipients for mail in server.mails] == [["a@example.com"], ["b@example.com"]]


def test_one_that_is_refused_and_one_that_is_deferred_are_told_apart(server: MailServer) -> None:
    server.on_recipient = lambda address: "450 later" if address == "b@example.com" else "550 unknown"
    assert send(server, TWO) == MailResult(450, "deferred", deferred=frozenset({"b@example.com"}))


def test_a_mail_beyond_the_servers_limit_is_not_tried_again() -> None:
    with MailServer(data_size_limit=100) as server:
        assert send(server, Mail("a@x", ("b@x",), "x" * 200)) == MailResult(552, "refused")


def test_local_parts_beyond_ascii_need_a_server_that_takes_them() -> None:
    mail = Mail("a@x.org", ("müller@x.org",), "x", (("To", "müller@x.org"),))
    with MailServer() as server:
        assert send(server, mail).accepted == {"müller@x.org"}
        assert server.mails[0].recipients == ["müller@x.org"]
    with MailServer(enable_SMTPUTF8=False) as server:
        assert send(server, mail) == MailResult(0, "address")


@pytest.mark.parametrize("security", ["ssl", "starttls"])
def test_tls_and_login(authority: Authority, security: str) -> None:
    login = {"user": USER, "password": PASSWORD}
    with MailServer(security, authority.sign("good"), login=True) as server:
        trusting = {"ca_file": str(authority.file), **login}
        assert send(server, security=security, **trusting).accepted
        assert server.mails[0].user == USER.encode()
        refused = send(server, security=security, **{**trusting, "password": "wrong"})
        assert refused == MailResult(535, "login", deferred=frozenset(MAIL.recipients))
        assert send(server, security=security, **login).reason == "tls"
        with pytest.raises(Unreachable, match="certificate") as failure:
            connect(settings(server.port, security, **login))
        assert PASSWORD not in str(failure.value)
    assert len(server.mails) == 1


def test_the_certificates_name_is_checked(authority: Authority) -> None:
    with MailServer("ssl", authority.sign("other", address="127.0.0.2")) as server:
        assert send(server, security="ssl", ca_file=str(authority.file)).reason == "tls"


def test_without_starttls_nothing_is_sent(server: MailServer) -> None:
    assert send(server, security="starttls", user=USER, password=PASSWORD).reason == "smtp"


def test_without_an_offered_login_nothing_is_sent(server: MailServer) -> None:
    assert send(server, user=USER, password=PASSWORD).reason == "smtp"
    assert server.mails == []


def test_nobody_listening() -> None:
    unreachable = send_by_smtp(settings(free_port()), MAIL, lambda: True)
    assert unreachable == MailResult(0, "connection", deferred=frozenset(MAIL.recipients))


@contextmanager
def speaking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that says what ``talk`` says on its first connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    talk(connection)
            except OSError:
                pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(5)


def refuse(connection: socket.socket) -> None:
    connection.sendall(b"554 no service here\r\n")


def hang_up(connection: socket.socket) -> None:
    connection.sendall(b"220 hello\r\n")
    connection.recv(1000)


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


def trickle(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"2")
        time.sleep(0.02)


def never_stop(connection: socket.socket) -> None:
    connection.sendall(b"220 hello\r\n")
    connection.recv(1000)
    while True:
        connection.sendall(b"250-x\r\n" * 1000)


@pytest.mark.parametrize(("talk", "reason", "status"), [
    (refuse, "smtp", 554), (hang_up, "connection", 0), (say_nothing, "timeout", 0), (trickle, "timeout", 0),
    (never_stop, "connection", 0),
])
def test_servers_that_misbehave_are_tried_again_later(
    talk: Callable[[socket.socket], None], reason: str, status: int
) -> None:
    with speaking(talk) as port:
        start = time.monotonic()
        result = send_by_smtp(settings(port, timeout=0.3 if reason == "timeout" else 3.0), MAIL, lambda: True)
        assert result == MailResult(status, reason, deferred=frozenset(MAIL.recipients))
        assert time.monotonic() - start < 2.5


def test_a_handshake_is_not_waited_for_any_longer() -> None:
    with speaking(say_nothing) as port:
        start = time.monotonic()
        result = send_by_smtp(settings(port, "ssl", timeout=0.2), MAIL, lambda: True)
        assert result is not None and result.reason == "timeout"
        assert time.monotonic() - start < 2.0


def test_a_broken_connection_after_the_mail_is_tried_again(server: MailServer) -> None:
    def talk(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", b"250 hi\r\n", b"250 from\r\n", b"250 to\r\n", b"354 go\r\n"):
            connection.sendall(reply)
            connection.recv(10_000)

    with speaking(talk) as port:
        result = send_by_smtp(settings(port), MAIL, lambda: True)
    assert result == MailResult(0, "connection", deferred=frozenset(MAIL.recipients))


def script(folder: Path, code: str) -> str:
    file = folder / "sendmail.py"
    file.write_text(code)
    return f"{sys.executable} {file} -t  -oi"


def test_a_command_gets_the_mail_on_its_input(tmp_path: Path) -> None:
    command = script(tmp_path, f"import sys; open({str(tmp_path / 'mail')!r}, 'wb').write(sys.stdin.buffer.read() + "
                               "repr(sys.argv[1:]).encode())")
    assert send_by_command(command, MAIL, 10.0) == MailResult(0, accepted=frozenset(MAIL.recipients))
    assert (tmp_path / "mail").read_bytes() == MAIL.data(b"\n") + b"['-t', '-oi']"


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    command = script(tmp_path, f"import sys; open({str(tmp_path / 'arguments')!r}, 'w').write(repr(sys.argv[1:]))")
    assert send_by_command(f"{command} $HOME ;exit 1", MAIL, 10.0).accepted
    assert (tmp_path / "arguments").read_text() == "['-t', '-oi', '$HOME', ';exit', '1']"


@pytest.mark.parametrize(("code", "result"), [
    ("raise SystemExit(75)", MailResult(0, "command", deferred=frozenset(MAIL.recipients))),
    ("raise SystemExit(67)", MailResult(0, "command")),
    ("import os; os.kill(os.getpid(), 9)", MailResult(0, "command", deferred=frozenset(MAIL.recipients))),
])
def test_exit_statuses(tmp_path: Path, code: str, result: MailResult) -> None:
    assert send_by_command(script(tmp_path, code), MAIL, 10.0) == result


def test_a_command_that_reads_nothing_has_taken_the_mail_if_it_says_so(tmp_path: Path) -> None:
    large = Mail("a@x", ("b@x",), "x\n" * 500_000)
    assert send_by_command(script(tmp_path, ""), large, 10.0).accepted


def test_a_command_that_is_missing_may_come_back() -> None:
    assert send_by_command("/none/sendmail -t", MAIL, 1.0).deferred


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    marker = tmp_path / "child"
    child = f"import time; time.sleep(3.0); open({str(marker)!r}, 'w')"
    command = script(tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    start = time.monotonic()
    assert send_by_command(command, MAIL, 0.3) == MailResult(0, "timeout", deferred=frozenset(MAIL.recipients))
    assert time.monotonic() - start < 2.5
    time.sleep(max(0.0, start + 3.6 - time.monotonic()))
    assert not marker.exists()
