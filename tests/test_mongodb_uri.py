"""`[side_store] uri` of MongoDB: what is understood is passed on, the rest refused without a word of it."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from pymongo.uri_parser import parse_uri

from storage.errors import StoreMisconfigured
from storage.mongodb import MongoDBStore

OPTIONS = SimpleNamespace(timeout=1.0, max_pool_size=1, direct=True)

SECRET = "hunter2x"


@pytest.mark.parametrize(
    "password", ["Tr0ub4dor;99", "$HOME", "$$", "50%", "a#b", "a?b=c", "a b", "p\u00e4ss", "a@b:c/d,e&f"]
)
def test_every_character_arrives_as_it_was_meant(password: str) -> None:
    store = MongoDBStore(f"mongodb://user:{quote(password, safe='')}@h1,h2:2/db?replicaSet=rs", OPTIONS)
    assert parse_uri(store._database.direct.connections._uri)["password"] == password
    assert store.describe() == "mongodb://h1,h2:2/db"
    store.close()


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("h/?tls=maybe", "option tls has a value"), ("h/?w=x&wtimeoutMS=y", "option wtimeoutMS"),
        ("h/?readPreference=x", "option readPreference"), ("h/?replicaset=a&hunter2x=1", "none of MongoDB's"),
        ("h/?replicaSett=a", "meant to be replicaset"), ("h/?authMechanism=X", "option authMechanism"),
        ("h/?authMechanismProperties=hunter2x:1", "option authMechanismProperties"), ("h/?x", "key=value"),
        ("u:hunter2x@h:port/", "Port contains"), ("u:hunter2x@h:99999/", "Port must be"),
        ("u:%hunter2x@h/", "escaped"), ("u:/hunter2x@h/", "escaped|Bad database name|Port"),
        ("u:#hunter2x@h/", "a #"), ("u:?hunter2x@h/", "an @ after"), ("u:p@h/hunter2x$", "database name|understood"),
        ("u:p@/", "Empty host"), ("u:p\n@h/", "can't be seen"), ("", "Must provide"),
        ("h/?tls=true&tlsCAFile=/none.pem", "/none.pem"), ("h/?tlsCertificateKeyFile=/none.pem", "/none.pem"),
        ("h/?w=0&journal=true", "Cannot set w to 0"),
    ],
)
def test_what_is_not_understood_is_refused(rest: str, complaint: str) -> None:
    with warnings.catch_warnings(record=True) as warned, pytest.raises(StoreMisconfigured, match=complaint) as refused:
        warnings.simplefilter("always")
        MongoDBStore(f"mongodb://{rest}", OPTIONS)
    assert SECRET not in str(refused.value) and not warned
    assert "\n" not in str(refused.value)


def test_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "empty.pem"
    file.touch()
    with pytest.raises(StoreMisconfigured, match="tlsCAFile"):
        MongoDBStore(f"mongodb://h/?tls=true&tlsCAFile={file}", OPTIONS)


@pytest.mark.parametrize(
    "query", [
        "replicaSet=rs&retryWrites=true&w=majority&readPreference=primary", "directConnection=true", "ssl=true",
        "authSource=admin&authMechanism=SCRAM-SHA-256", "serverSelectionTimeoutMS=5", "compressors=zlib", "appName=x",
    ],
)
def test_options_of_the_driver_are_taken(query: str) -> None:
    MongoDBStore(f"mongodb://u:p@h/?{query}", OPTIONS).close()
