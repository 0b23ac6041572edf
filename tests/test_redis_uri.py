"""From `[bridge] uri` to what redis-py connects with."""

from urllib.parse import quote

import pytest

from bridges.addresses import Address
from bridges.errors import BridgeMisconfigured
from bridges.redis.uri import Target, read_uri


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("redis://host", Target((Address("host", 6379),))),
        ("redis://host/", Target((Address("host", 6379),))),
        ("redis://:secret@host:1/3", Target((Address("host", 1),), password="secret", db=3)),
        ("redis://user@host", Target((Address("host", 6379),), user="user")),
        ("redis://user:@host", Target((Address("host", 6379),), user="user", password="")),
        ("rediss://user:a%3Ab@[::1]:7/0", Target((Address("::1", 7),), user="user", password="a:b", tls=True)),
        ("redis+sentinel://a/main", Target((Address("a", 26379),), service="main")),
        (
            "redis+sentinel://:p@a:1,b:2,[::1]/m%20n/4",
            Target((Address("a", 1), Address("b", 2), Address("::1", 26379)), service="m n", password="p", db=4),
        ),
        ("rediss+sentinel://a/main", Target((Address("a", 26379),), service="main", tls=True)),
        ("redis+unix:///run/redis.sock", Target(path="/run/redis.sock")),
        ("redis+unix://user:p%40w@/run/a%20b%3F.sock?db=2", Target(path="/run/a b?.sock", user="user", password="p@w",
                                                                   db=2)),
    ],
)
def test_uri_is_read(uri: str, target: Target) -> None:
    assert read_uri(uri) == target


#: Passwords that mean something to somebody: URIs, shells, redis-py.
HOSTILE = [
    "a@b", "a:b", "a/b", "a?b", "a#b", "50%", "%41", "p\u00e4ss", "a b", "://", "[x]", "a,b", "$HOME", "\U0001f600",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["redis://{}:{}@host/1", "redis+sentinel://{}:{}@a,b/m", "redis+unix://{}:{}@/a.sock"])
def test_login_arrives_as_it_is_and_is_not_shown(form: str, text: str) -> None:
    target = read_uri(form.format(*[quote(text, safe="")] * 2))
    assert (target.user, target.password) == (text, text)
    for shown in (str(target), repr(target).replace(repr(text), "", 1)):  # the user
        assert text not in shown.replace("://", "")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("redis://", "write redis://"), ("redis:host", "write redis://"), ("redis:///0", "write redis://"),
        ("redis://host\n", "write redis://"), ("redis://host#x", "write redis://"),
        ("redis://a,b/0", "several are for redis.sentinel"), ("redis://host/x", "not a number"),
        ("redis://host/-1", "not a number"), ("redis://host/0/1", "not a number"),
        ("redis://host/\u0663", "not a number"),
        ("redis://host/9999999", "not a number"), ("redis://host?db=1", "no query"),
        ("redis://host:x", "host\\[:port\\]"), ("redis://host:99999", "host\\[:port\\]"), ("redis://ho st", "host"),
        ("redis://user:pa/ss@host", "host\\[:port\\]"), ("redis://user:%zz@host", "% as %25"),
        ("redis://user:%ff@host", "UTF-8"), ("redis+sentinel://a", "/service"), ("redis+sentinel://a/", "/service"),
        ("redis+sentinel://a,,b/m", "host\\[:port\\]"), ("redis+unix://run/redis.sock", "three slashes"),
        ("redis+unix:///", "three slashes"), ("redis+unix:///a.sock?virtual_host=1", "only \\?db="),
        ("redis+unix:///a.sock?db=x", "not a number"), ("redis+unix:///a%00b", "three slashes"),
    ],
)
def test_uri_that_cannot_be_used_is_refused_without_its_password(uri: str, said: str) -> None:
    with pytest.raises(BridgeMisconfigured, match=said) as refused:
        read_uri(uri)
    assert str(refused.value).startswith("[bridge] uri: ")
    assert "pa/ss" not in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    ["redis://host:6379/0", "rediss://[::1]:6379/2", "redis+sentinel://a:1,b:2/main/0", "rediss+sentinel://a:1/main/3",
     "redis+unix:///run/redis.sock?db=0"],
)
def test_target_is_shown_as_it_is_written(uri: str) -> None:
    assert str(read_uri(uri)) == uri
