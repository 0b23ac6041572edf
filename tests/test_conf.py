"""The options, from files and from the environment."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg, types

from gateway.config.limits import Limits
from gateway.config.options import list_opts
from gateway.config.reader import load

SAMPLE = Path(__file__).parents[1] / "etc" / "marconi.conf.sample"

#: Every option as (section, option).
OPTIONS = [(section or "DEFAULT", option) for section, options in list_opts() for option in options]

#: Texts for options that are not numbers, booleans or choices.
TEXTS = {
    "bind": "127.0.0.9", "prefix": "/another", "socket_mode": "600", "hosts": "a:1,b:2",
    "allow": "a read / queue:b,* * * *", "other_keys": "a,b", "subscriber_types": "https,http", "retry_schedule": "1,2",
    "allowed_networks": "10.0.0.0/8,fd00::/8", "denied_networks": "10.0.0.0/8", "trust_networks": "10.0.0.0/8",
    "mail_domains": "a.org,b.org", "enable_deprecated_api_versions": "1,1.1",
}


def another(option: cfg.Opt) -> tuple[str, Any]:
    """A value that is not the default, as text and as what it is read as."""
    if isinstance(option, cfg.BoolOpt):
        return str(not option.default).lower(), not option.default
    if isinstance(option, (cfg.IntOpt, cfg.FloatOpt, cfg.PortOpt)):
        default = option.default or option.type.min or 0
        value = default + 1 if default + 1 <= (option.type.max or default + 1) else option.type.min
        return str(value), value
    if getattr(option.type, "choices", None):
        value = next(choice for choice in option.type.choices if choice != option.default)
        return value, value
    if isinstance(option.type, types.List):
        read = option.type.item_type or str
        return TEXTS[option.name], [read(part) for part in TEXTS[option.name].split(",")]
    if isinstance(option.default, dict):
        return 'topic:a,body:"b, c: d"', {"topic": "a", "body": "b, c: d"}
    text = TEXTS.get(option.name, "another")
    return text, text


def group(conf: Any, section: str) -> Any:
    return conf if section == "DEFAULT" else conf[section]


@pytest.mark.parametrize(("section", "option"), OPTIONS, ids=[f"{s}.{o.name}" for s, o in OPTIONS])
def test_every_option_can_be_set_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, section: str, option: cfg.Opt
) -> None:
    text, value = another(option)
    assert value != option.default
    monkeypatch.setenv(f"OS_{section}__{option.name}".upper(), text)
    assert getattr(group(load(config_files=[]), section), option.dest) == value


def test_every_option_has_its_default_without_a_file() -> None:
    conf = load(config_files=[])
    for section, option in OPTIONS:
        assert getattr(group(conf, section), option.dest) == option.default


def test_environment_wins_over_files(configured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_WSGI__PORT", "2")
    assert configured(wsgi={"port": 1, "threads": 3}).wsgi.port == 2


def test_later_files_win(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.conf").write_text(f"[wsgi]\nport = {number}\n")
    conf = load(config_files=[str(tmp_path / "1.conf"), str(tmp_path / "2.conf")])
    assert conf.wsgi.port == 2


@pytest.mark.parametrize(
    ("section", "name", "text"),
    [("wsgi", "port", "65536"), ("wsgi", "threads", "0"), ("wsgi", "bind", "no address!"),
     ("bridge", "queue_type", "stream"), ("bridge", "timeout", "0"), ("transport", "max_messages_per_page", "1001"),
     ("transport", "default_message_ttl", "59"), ("DEFAULT", "admin_mode", "perhaps")],
)
def test_value_out_of_bounds_is_refused(
    configured: Callable[..., Any], section: str, name: str, text: str
) -> None:
    with pytest.raises((cfg.Error, ValueError), match=name):
        getattr(group(configured(**{section: {name: text}}), section), name)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cfg.ConfigFilesNotFoundError):
        load(config_files=[str(tmp_path / "none.conf")])


def test_secrets_are_not_logged() -> None:
    secrets = {option.name for _, option in OPTIONS if option.secret}
    assert secrets >= {"uri", "secret_key", "key"}


def test_limits_are_those_of_the_core() -> None:
    assert Limits.from_options(load(config_files=[]).transport) == Limits()


def test_sample_works_when_everything_in_it_is_switched_on(tmp_path: Path) -> None:
    file = tmp_path / "marconi.conf"
    file.write_text(re.sub(r"^#(\w+ = .+)$", r"\1", SAMPLE.read_text(), flags=re.MULTILINE))
    conf = load(config_files=[str(file)])
    for section, option in OPTIONS:
        assert getattr(group(conf, section), option.dest) == option.default


@pytest.mark.parametrize(("text", "prefix"), [
    ("", ""), ("/", ""), ("/messaging", "/messaging"), ("/messaging/", "/messaging"), ("/a/b-c_d.e~f", "/a/b-c_d.e~f"),
    ("/v2x", "/v2x"),
])
def test_prefix_is_a_path(configured: Callable[..., Any], text: str, prefix: str) -> None:
    assert configured(wsgi={"prefix": text}).wsgi.prefix == prefix


@pytest.mark.parametrize("text", [
    "messaging", "//messaging", "/a//b", "/a b", "/a%20b", "/a?b", "/..", "/a/../b", "/v2", "/v2/", "/v2/x", "/metrics",
    "/healthcheck", "http://host/messaging", "/m\u00fc",
])
def test_prefix_that_no_client_could_send_or_that_is_taken_is_refused(
    configured: Callable[..., Any], text: str
) -> None:
    with pytest.raises((ValueError, cfg.Error), match="must be a path like /messaging"):
        _ = configured(wsgi={"prefix": text}).wsgi.prefix
