"""Options of mail: their defaults, what contradicts, and what `marconi check` says about the server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from functional.services.certificates import Authority
from functional.services.mail import PASSWORD, USER, MailServer
from functional.services.ports import free_port
from gateway.commands.check import check
from gateway.config.consistency import contradictions
from gateway.config.mail import CONFIRMATION, UNSUBSCRIPTION, MailSettings
from gateway.config.options.notification import NOTIFICATION_OPTS
from gateway.config.options.notification_mail import MAIL_OPTS

Configured = Callable[..., Any]


def mail_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Outcome and text of the part that is mail; empty if there is none."""
    lines = capsys.readouterr().out.splitlines()
    return next((" ".join(line[16:].split(None, 1)) for line in lines if line.startswith("mail ")), "")


def test_defaults_of_the_settings_are_those_of_the_options(configured: Configured) -> None:
    assert MailSettings.from_options(configured()) == MailSettings()
    assert not {option.name for option in MAIL_OPTS} & {option.name for option in NOTIFICATION_OPTS}


def test_a_template_may_replace_a_part(configured: Configured) -> None:
    settings = MailSettings.from_options(configured(notification={
        "subscription_confirmation_email_template": 'topic:"Hi, you", sender:Doe <j@x.org>',
    }))
    assert (settings.confirmation.topic, settings.confirmation.sender) == ("Hi, you", "Doe <j@x.org>")
    assert settings.confirmation.body == CONFIRMATION.body
    assert settings.unsubscription == UNSUBSCRIPTION


@pytest.mark.parametrize(("options", "fault"), [
    ({"smtp_mode": "self_local"}, "smtp_host is unset"),
    ({"smtp_command": " "}, "smtp_command is empty"),
    ({"smtp_from": "nobody"}, "smtp_from must be a mail address"),
    ({"unsubscribe_confirmation_email_template": "subject:x"}, "unknown keys subject"),
])
def test_what_can_not_work_is_said(configured: Configured, options: dict[str, str], fault: str) -> None:
    (found,) = contradictions(configured(notification=options))
    assert fault in found


def test_a_password_is_not_shown(configured: Configured) -> None:
    assert "hush" not in repr(MailSettings.from_options(configured(notification={"smtp_user_password": "hush"})))


def test_check_says_nothing_about_mail_that_nobody_has_configured(
    configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(configured())
    assert mail_line(capsys) == ""


def test_check_looks_for_the_command(configured: Configured, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(configured(notification={"smtp_command": "/bin/sh -t"}))
    assert mail_line(capsys) == "ok /bin/sh"
    assert not check(configured(notification={"smtp_command": "/none/sendmail -t"}))
    assert "no such command" in mail_line(capsys)


def test_check_logs_in(configured: Configured, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with MailServer("starttls", authority.sign("good"), login=True) as server:
        options = {
            "smtp_mode": "self_local", "smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_security": "starttls",
            "smtp_user_name": USER, "smtp_user_password": PASSWORD, "ca_file": authority.file,
        }
        assert check(configured(notification=options))
        assert mail_line(capsys) == f"ok 127.0.0.1:{server.port}, as {USER}"
        assert not check(configured(notification={**options, "smtp_user_password": "hush"}))
        assert mail_line(capsys) == f"FAILED 127.0.0.1:{server.port}: the login was refused"
        del options["ca_file"]
        assert not check(configured(notification=options))
        assert "FAILED" in (line := mail_line(capsys)) and "certificate" in line and PASSWORD not in line
    assert server.mails == []


def test_check_says_that_nobody_answers(configured: Configured, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert not check(configured(notification={
        "smtp_mode": "self_local", "smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": "none",
    }))
    assert mail_line(capsys) == f"FAILED 127.0.0.1:{port}: the connection has failed"
