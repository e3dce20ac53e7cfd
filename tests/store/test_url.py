"""Store URLs as people paste them: passwords with any character, other tools' schemes, paths with odd names."""

import logging
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.store.url import read_address, shown

HERE = Path("/")
PASSWORDS = st.text(st.sampled_from("ab1@/#%:?=&+[] \\'\"é;,."), min_size=6, max_size=14)
ODD = (
    *("p@tail", "p@ss@tail", "p:tail", "p#tail", "p%tail", "p%2Ftail", "p tail", "p[tail"),
    *("p\\t'\"", "pä&t=1", "@tail", "p@"),
)
SCHEMES = (
    "postgres",
    "postgresql",
    "Postgres",
    "postgresql+psycopg2",
    "postgresql+asyncpg",
    "postgresql+psycopg_async",
)
SEVERAL = ("a:p@h1:1,h2:2/d", "a:p@/d?host=h1:1&host=h2:2", "a:p@/d?host=h1,h2&port=1,2")


def parts(text):
    url = read_address(text, HERE).url
    return url.username, url.password, url.host, url.port, url.database


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_of_postgresql_means_the_driver_that_is_installed(scheme):
    url = read_address(f" {scheme}://ann:pw@db.example:6543/calls?sslmode=require\n", HERE).url
    assert (url.drivername, dict(url.query)) == ("postgresql+psycopg", {"sslmode": "require"})
    assert parts(str(url.render_as_string(hide_password=False))) == ("ann", "pw", "db.example", 6543, "calls")


@given(PASSWORDS)
def test_an_encoded_password_is_read_as_it_is(password):
    url = f"postgresql://ann:{quote(password, safe='')}@db.example/calls?sslmode=require"
    assert parts(url) == ("ann", password, "db.example", None, "calls")


@given(PASSWORDS)
def test_a_pasted_password_is_read_whole_or_refused_and_never_shown(password):
    url = said = None
    try:
        url = read_address(f"postgresql://ann:{password}@db.example:5432/calls", HERE).url
    except StoreError as error:
        said = str(error)
    if url is None:
        assert "%40" in said
        assert password not in said
        return
    # A percent sign that two digits follow stands for another character, as in every URL.
    assert url.password in (password, unquote(password))
    assert shown(url) == "postgresql://ann:***@db.example:5432/calls"


@pytest.mark.parametrize("password", ODD)
def test_a_password_with_odd_characters_opens_the_store(postgresql, postgresql_url, password):
    quoted = password.replace("'", "''").replace("%2F", "/")
    postgresql.execute(f"CREATE ROLE locked_odd LOGIN SUPERUSER PASSWORD '{quoted}'")
    try:
        store = Store(postgresql_url.replace("postgres@", f"locked_odd:{password}@"))
        with store.reading():
            pass
        store.close()
        wrong = Store(postgresql_url.replace("postgres@", f"locked_odd:{password}x@"))
        with pytest.raises(StoreError, match="authentication failed") as caught, wrong.reading():
            pass
        for shown_text in (str(caught.value), wrong.shown_url, repr(wrong.url)):
            assert password not in shown_text
            assert "tail" not in shown_text
        wrong.close()
    finally:
        postgresql.execute("DROP ROLE locked_odd")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:SECRET@TAIL@h:port/d",
        "postgresql://ann:SEC@RET?x=TAIL@h/d",
        "postgresql://ann:SEC/RET@TAIL/h/d/e",
        "postgresql://ann:p@h/d?application_name=SECRET@TAIL",
        "postgresql://ann:SECRET%00TAIL@h/d",
        "mysql://ann:SECRET@TAIL/d",
        "jdbc:postgresql://h/d?user=ann&password=SECRET",
        "ann:SECRET@TAIL/d",
        "https://SECRET@TAIL/d",
        "sqlite://ann:SECRET@TAIL/d",
    ],
)
def test_no_error_shows_a_part_of_the_url(text, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError, match="CHEAPDEEP_STORE_URL") as caught:
        Store(text)
    for told in (str(caught.value), repr(caught.value), caplog.text, str(caught.value.__context__)):
        assert "SEC" not in told
        assert "TAIL" not in told


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("postgresql://h/d", (None, None, "h", None, "d")),
        ("postgresql://", (None, None, None, None, None)),
        ("postgresql:///d", (None, None, None, None, "d")),
        ("postgresql://ann@server:pw@h/d", ("ann@server", "pw", "h", None, "d")),
        ("postgresql://ann:@[::1]:5432/d", ("ann", None, "::1", 5432, "d")),
        ("postgresql://ann:pw@%2Fvar%2Frun/d", ("ann", "pw", "/var/run", None, "d")),
        ("postgresql://h/d?application_name=a@b", (None, None, "h", None, "d")),
        ("postgresql://a%40b:p%2Fw@h", ("a@b", "p/w", "h", None, None)),
    ],
)
def test_the_parts_of_a_url(text, read):
    assert parts(text) == read


@pytest.mark.parametrize("rest", SEVERAL)
def test_of_several_hosts_the_primary_is_looked_for(rest):
    text = f"postgresql://{rest}"
    expected = {"host": "h1,h2", "port": "1,2", "target_session_attrs": "read-write"}
    url = read_address(text, HERE).url
    assert dict(url.query) == expected
    assert url.host is None
    any_host = read_address(text + ("&" if "?" in text else "?") + "target_session_attrs=any", HERE).url
    assert any_host.query["target_session_attrs"] == "any"


@pytest.mark.parametrize(("ssl", "mode"), [("true", "require"), ("verify-full", "verify-full"), ("0", "disable")])
def test_the_option_ssl_of_other_drivers_is_sslmode(ssl, mode):
    assert dict(read_address(f"postgresql+asyncpg://h/d?ssl={ssl}", HERE).url.query) == {"sslmode": mode}


# SQLite

NAMES = ["100%", "50%20off", "%41", "a b", "möwe", "a?b", "a#b", "a?b=c", "a&b", "a+b", "a:b", "it's", '"', "a@b", "%"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_path_is_taken_as_it_is_written(tmp_path, name, is_folder):
    path = tmp_path / name / "store.db" if is_folder else tmp_path / f"{name}.db"
    path.parent.mkdir(exist_ok=True)
    store = Store(f"sqlite:///{path}")
    migrate(store)
    assert store.shown_url == f"sqlite:///{path}"
    assert store.exists
    store.close()
    assert path.is_file()
    assert {each.name.split(".db")[0] for each in path.parent.iterdir()} == {path.name.split(".db")[0]}


@pytest.mark.parametrize("name", ["a b", "möwe", "100%"])
def test_a_folder_may_be_percent_encoded(tmp_path, name):
    path = tmp_path / name / "store.db"
    path.parent.mkdir()
    assert read_address(f"sqlite:///{quote(str(path))}", HERE).url.database == str(path)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_is_a_path(name):
    if name.strip() not in (".", ".."):
        assert read_address(f"sqlite:////{name}/x.db", HERE).url.database == f"/{name}/x.db"


@pytest.mark.parametrize("text", ["sqlite://tmp/x.db", "sqlite:////x.db?timeout=5&mode=ro"])
def test_what_is_no_path_is_explained(text):
    with pytest.raises(StoreError, match=r"needs sqlite:///|options of SQLite"):
        read_address(text, HERE)


@pytest.mark.parametrize("password", ["one&SECRET", "one&x=SECRET", "one@two&SECRET=", "SECRET"])
def test_a_password_in_an_option_is_not_shown_however_it_ends(password):
    address = read_address(f"postgresql://db.example/calls?user=ann&sslmode=require&password={password}", HERE)
    assert "SECRET" not in repr(address)
    assert repr(address) == ("Address(postgresql://db.example/calls?password=hidden&sslmode=require&user=ann)")
