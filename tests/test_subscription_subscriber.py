"""Subscribers' URIs: which are taken, and what they say."""

import pytest

from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.subscriber import MAX_LENGTH, TYPES, Subscriber, parse

RULES = Rules()


@pytest.mark.parametrize("text", [
    "http://CCC.com", "http://fake", "http://trigger.me", "http://trigger_me", "http://0", "http://14",
    "http://fake:8080", "http://127.1", "http://2130706433", "http://0x7f.1", "http://0177.0.0.1", "http://8.8.8.8",
    "http://[2600::1]:8080/", "https://a.example.", "http://xn--bcher-kva.example", "http://a-.-b", "http://fake:22",
    "HTTP://fake", "Trust+HTTPS://fake", "http://fake:", "http://fake?x=1", "http://fake#x", "http://fake/a@b:c",
    "mailto:a@b", "MAILTO:a@b.example,c@d.example", "mailto:a@b?subject=x", "marconi:other", "mailto:ü@example.com",
    "websocket:0196f0a0-0000-7000-8000-000000000000",
])
def test_good_subscriber(text: str) -> None:
    assert parse(text, TYPES, RULES).type == text.partition(":")[0].lower()


@pytest.mark.parametrize("text", [
    None, "", 1, True, [], {}, ["http://a"], "fake", "//fake", ":", "http", "http:", "http:/", "http:fake",
    "http:/fake", "http://", "http:///x", "https://?x", "https://#x", "trust+http://", "http://:80", "http://.",
    "http://a..b",
    "http://user@fake", "http://user:secret@fake", "http://@fake", "http://fake:99999", "http://fake:0",
    "http://fake:65536", "http://fake:x", "http://fake:-1", "http://fake:٣", "http://fake:80:80", "http://fa ke",
    "http://fake/a b", " http://fake", "http://fake\n", "http://fake\r\nX: y", "http://fake\t", "http://\0", "ht\ntp://a",
    "http://fake\\x", "http://\\fake", "http:\\\\fake", "http://8.8.8.8\\@fake", "http://fake\x7f", "http://fake\x85",
    "http://fake\u2028", "http://fake\xa0", "http://fa%6be", "http://fake;x", "http://fake,x", "http://fa*ke",
    "http://①②⑦.0.0.1", "http://127。0。0。1", "http://a\u200db", "http://" + "a" * 64, "http://" + "a." * 127 + "a",
    "http://" + "ä" * 64, "http://xn--ä", "http://[::1", "http://::1", "http://[fe80::1%25eth0]", "http://[fe80::1%eth0]",
    "http://[8.8.8.8]", "http://[v1.x]", "http://[]", "http://[::1]x", "http://fake/" + "a" * MAX_LENGTH,
    "mailto:", "mailto:a", "mailto:@", "mailto:a@", "mailto:@b", "mailto:a@b,", "mailto:,a@b", "mailto:a@b;c@d",
    "mailto:a@b%0d%0aBcc:c@d", "mailto:a@b%00", "mailto:a@b%20c", "mailto:<a@b>", "mailto:a@b@c", "mailto:%ff@b",
    "mailto:a@b?subject=%0d%0aBcc:c", "mailto:a@b?subject=%ff", "mailto:" + "a" * 260 + "@b",
    "mailto:" + ",".join(["a@b"] * 21), "marconi:", "marconi:a/b", "marconi://a", "marconi:a b", "marconi:" + "a" * 65,
    "marconi:..", "websocket:x", "websocket:", "gopher://fake", "ftp://fake", "file:///etc/passwd", "trust+mailto:a@b",
    "trust+marconi:a", "javascript:x", "\ud800", "http://\ud800", "http://fake/\udfff",
])
def test_bad_subscriber_is_refused_with_a_sentence(text: object) -> None:
    with pytest.raises(ValueError, match=r"^(A|The|Of|In) .*subscriber") as caught:
        parse(text, TYPES, RULES)
    assert type(caught.value) is ValueError and "secret" not in str(caught.value)


@pytest.mark.parametrize(("text", "sentence"), [
    ("http://user:secret@fake", "user or a password"), ("http://fake/a\\b", "backslashes"), ("http://fa ke", "blanks"),
    ("http://fake\n", "control characters"), ("http://fake:0", "port must be"), ("http://a..b", "1 to 63"),
    ("http://[fe80::1%1]", "zone"), ("http://①.a", "IDNA"), ("http://", "have a host"), ("mailto:", "mail addresses"),
    ("marconi:a/b", "name a queue"), ("mailto:a@b?subject=%0a", "subject"), ("mailto:%ff@b", "UTF-8"),
])
def test_sentence_says_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(text, TYPES, RULES)


def test_only_supported_types_are_taken() -> None:
    for text in ("marconi:a", "websocket:0196f0a0-0000-7000-8000-000000000000", "http://fake"):
        with pytest.raises(ValueError, match="must be supported in the list https, mailto"):
            parse(text, ["mailto", "https"], RULES)
    with pytest.raises(ValueError, match="must be supported in the list"):
        parse("gopher://fake", ["gopher"], RULES)
    assert parse("HTTPS://fake", ["https"], RULES).scheme == "https"


@pytest.mark.parametrize(("text", "url", "host", "port"), [
    ("http://CCC.com", "http://ccc.com/", "ccc.com", 80),
    ("https://fake", "https://fake/", "fake", 443),
    ("https://fake:443/", "https://fake/", "fake", 443),
    ("https://fake:80/", "https://fake:80/", "fake", 80),
    ("HTTP://fake:08080?a=b#c", "http://fake:8080/?a=b", "fake", 8080),
    ("http://fake#c?d", "http://fake/", "fake", 80),
    ("http://[2600:0::1]:8080/x", "http://[2600::1]:8080/x", "2600::1", 8080),
    ("trust+https://fake/v2?a=%20%2F", "https://fake/v2?a=%20%2F", "fake", 443),
    ("https://Bücher.example/ä?ö=\u3000", "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%E3%80%80",
     "xn--bcher-kva.example", 443),
    ("http://fake/a?b?c&d=[e]", "http://fake/a?b?c&d=%5Be%5D", "fake", 80),
    ("http://faß.example/", "http://xn--fa-hia.example/", "xn--fa-hia.example", 80),
    ("http://fake.example./", "http://fake.example/", "fake.example", 80),
    ("http://fake/a/../b/./", "http://fake/a/../b/./", "fake", 80),
])
def test_url_that_is_requested(text: str, url: str, host: str, port: int) -> None:
    found = parse(text, TYPES, RULES)
    assert (found.url, found.host, found.port) == (url, host, port)
    assert found.trust is text.startswith("trust+") and found.is_http


@pytest.mark.parametrize("host", [
    "10.0.0.1", "127.0.0.1", "127.0.0.1.", "169.254.169.254", "[::1]", "[0:0::1]", "[fe80::1]", "[::ffff:127.0.0.1]",
    "[64:ff9b::808:808]", "8.8.8.8:22",
])
def test_literal_that_may_not_be_sent_to_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"address is refused: .*\[notification\] allowed_"):
        parse(f"http://{host}/", TYPES, RULES)
    assert parse(f"http://{host}/").is_http  # rules are for new ones; attempts are judged by what they connect to


def test_literal_is_judged_with_port_and_trust() -> None:
    rules = Rules(["10.0.0.1:8080"], ["10.0.0.2"])
    assert parse("http://10.0.0.1:8080", TYPES, rules).port == 8080
    assert parse("trust+http://10.0.0.2", TYPES, rules).trust
    for text in ("http://10.0.0.1", "http://10.0.0.2"):
        with pytest.raises(ValueError, match="refused"):
            parse(text, TYPES, rules)


def test_mail() -> None:
    assert parse("mailto:a@b,c%2Bd%40e?SUBJECT=Gr%C3%BC%C3%9Fe+1%26&body=x&cc=f@g&subject=y") == Subscriber(
        "mailto", recipients=("a@b", "c+d@e"), subject="Grüße+1&"
    )
    assert parse("mailto:a@b?cc=x@y&bcc=z@y#z") == Subscriber("mailto", recipients=("a@b",))
    assert parse("mailto:a@b?subject=").subject == ""


def test_queue_and_connection() -> None:
    assert parse("marconi:a.b") == Subscriber("marconi", queue="a.b")
    id_ = "0196f0a0-0000-7000-8000-000000000000"
    assert parse(f"websocket:{id_}") == Subscriber("websocket", connection=id_)
