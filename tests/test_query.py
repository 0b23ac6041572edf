"""Query strings."""

import pytest
from werkzeug.datastructures import MultiDict

from gateway.core.errors import InvalidInput
from gateway.web import query

Args = MultiDict[str, str]


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-5", -5), ("007", 7), ("9" * 19, int("9" * 19))])
def test_integer(text: str, value: int) -> None:
    assert query.integer(Args({"n": text}), "n") == value


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "1.0", "1e3", "0x1", "a", "1\n", "٣", "9" * 20, "--1"])
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="n must be an integer"):
        query.integer(Args({"n": text}), "n")


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "yes", "1"])
def test_true(text: str) -> None:
    assert query.boolean(Args({"b": text}), "b") is True


@pytest.mark.parametrize("text", ["false", "False", "no", "0"])
def test_false(text: str) -> None:
    assert query.boolean(Args({"b": text}), "b") is False


@pytest.mark.parametrize("text", ["", "2", "on", "t", " true", "yesno"])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="b must be one of"):
        query.boolean(Args({"b": text}), "b")


def test_absent_parameters() -> None:
    assert query.integer(Args(), "n") is None
    assert query.boolean(Args(), "b") is False
    assert query.strings(Args(), "ids") is None


@pytest.mark.parametrize(("wanted", "limit"), [(None, 10), ("1", 1), ("20", 20)])
def test_limit(wanted: str | None, limit: int) -> None:
    assert query.limit(Args({"limit": wanted} if wanted else {}), 20) == limit


def test_default_limit_is_not_above_the_highest() -> None:
    assert query.limit(Args(), 3) == 3


@pytest.mark.parametrize("wanted", ["0", "-1", "21"])
def test_limit_out_of_range_is_refused(wanted: str) -> None:
    with pytest.raises(InvalidInput, match="limit must be from 1 to 20"):
        query.limit(Args({"limit": wanted}), 20)


@pytest.mark.parametrize(
    ("given", "read"),
    [([("ids", "a")], ["a"]), ([("ids", "a,b"), ("ids", "c")], ["a", "b", "c"]), ([("ids", "")], []),
     ([("ids", ",a,,")], ["a"])],
)
def test_list(given: list[tuple[str, str]], read: list[str]) -> None:
    assert query.strings(Args(given), "ids") == read


def test_next_link_keeps_the_query_and_escapes_it() -> None:
    args = Args([("limit", "2"), ("marker", "old"), ("name", "a&b=ü"), ("ids", "1"), ("ids", "2")])
    ((link,),) = [query.next_link("/v2/queues", args, "m 1")]
    assert link == {"rel": "next", "href": "/v2/queues?limit=2&name=a%26b%3D%C3%BC&ids=1&ids=2&marker=m+1"}
