"""API tokens: their file as a text, the tokens that a server knows, and the commands that change the file."""

import contextlib
import dataclasses
import json
import logging
import os
import random
import re
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cheapdeep_ops import Settings
from cheapdeep_ops.access.known_tokens import LOOK_EVERY_S, MOST_BYTES, KnownTokens
from cheapdeep_ops.access.token_file import NEW_FILE, TokenFileError, parse, with_token, without_token
from cheapdeep_ops.access.token_writer import change
from cheapdeep_ops.access.tokens import NO_TOKENS, CallKey, Refusal, Role, Token, hash_of, new_secret
from cheapdeep_ops.cli import main
from cheapdeep_ops.errors import SettingsError

HASH = hash_of("s3same")
TABLE = f'[[token]]\nname = "ann"\nrole = "act"\nhash = "sha256:{HASH}"\n'
CALL_TABLE = TABLE.replace("act", "call")
PLAIN_ROLES = {Role.READ, Role.ACT, Role.CONTENT}

# The text of the file

names = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=100).filter(str.strip)
routes = st.frozensets(st.text(min_size=1).filter(lambda route: route != "*"), min_size=1, max_size=3)


def without_key(token):
    return dataclasses.replace(token, roles=(token.roles - {Role.CALL, Role.READ}) or {Role.ACT})


usd = st.none() | st.floats(1e-9, 1_000_000)
paths = st.text(st.characters(exclude_characters="*", exclude_categories=["C"])).map("/v1/{}".format)
call_keys = st.builds(
    CallKey,
    usd_per_day=usd,
    deep_usd_per_day=usd,
    paths=st.lists(paths | paths.map("{}*".format), max_size=2).map(tuple),
    may_turn_off=st.booleans(),
    is_graded=st.booleans(),
)
tokens = st.builds(
    Token,
    name=names.map(str.strip),
    hash=st.binary(min_size=32, max_size=32).map(bytes.hex),
    roles=st.frozensets(st.sampled_from(Role), min_size=1).filter(lambda roles: roles != {Role.READ}),
    routes=st.none() | routes,
    expires_at=st.none() | st.integers(0, 2**35).map(float),
)
call_tokens = st.builds(
    lambda token, key: dataclasses.replace(
        token, roles=token.roles | {Role.CALL}, call=dataclasses.replace(key, route=min(token.routes or [""]))
    ),
    tokens,
    call_keys,
)
token_lists = st.lists(
    tokens.map(without_key) | call_tokens, max_size=4, unique_by=(lambda token: token.name, lambda token: token.hash)
)


def written(listed):
    text = NEW_FILE
    for token in listed:
        text = with_token(text, token)
    return text


@settings(max_examples=40)
@given(token_lists)
def test_what_is_written_is_read_again(listed):
    assert parse(written(listed)) == tuple(listed)


@given(token_lists.filter(bool), st.data())
def test_only_the_revoked_token_goes_and_comments_stay(listed, data):
    revoked = data.draw(st.sampled_from(listed))
    text = written(listed).replace("[[token]]", "# above\n[[token]] # beside\n# within")
    after = without_token(text, revoked.name)
    assert parse(after) == tuple(token for token in listed if token != revoked)
    assert (after.count("# above"), after.count("# within")) == (len(listed), len(listed) - 1)
    assert with_token(after, revoked).startswith(after)


def test_a_change_of_the_file_is_seen(tmp_path):
    path, at = tmp_path / "tokens.toml", [0.0]
    path.write_text(TABLE)
    known = KnownTokens(path=path, monotonic=lambda: at[0])
    assert [token.name for token in known.tokens] == ["ann"]
    path.write_text(CALL_TABLE + "usd_per_day = 5\n")
    at[0] += LOOK_EVERY_S
    assert [token.call.usd_per_day for token in known.tokens] == [5.0]


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/v1/files", True),
        ("/v1/files/file_1/content", True),
        ("/v1/files/../messages/batches", False),
        ("/v1/files/%2e%2e/messages/batches", False),
        ("/v1/files//x", False),
        ("/v1/messages/batches", False),
        ("/v1/organizations", True),
        ("/v1/organizations/x", False),
    ],
)
def test_a_key_opens_the_paths_that_it_lists_and_no_other(path, is_open):
    assert CallKey(paths=("/v1/files*", "/v1/organizations")).opens(path) is is_open
    assert not CallKey().opens(path)


@given(st.text() | st.text(alphabet="[]token=\"'#\n name role hash expiry routes sha256:0{}."))
@example("[[token]]\n[token.name]")
@example("token = 1")
@example("[" * 10_000)
@example("a = 2027-99-99")
def test_garbage_is_refused_with_one_kind_of_error(text):
    with contextlib.suppress(TokenFileError):
        assert isinstance(parse(text), tuple)


@given(st.integers(0, len(TABLE)), st.text(max_size=3))
def test_a_damaged_file_is_refused_or_means_what_it_says(place, damage):
    with contextlib.suppress(TokenFileError):
        (token,) = parse(TABLE[:place] + damage + TABLE[place:])
        assert token.roles <= set(Role)
        assert re.fullmatch("[0-9a-f]{64}", token.hash)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[token]", "is not TOML: line 1: "),
        (TABLE + "\n\nx = = 1\n", "is not TOML: line 7: "),
        ("# one\n[[tokens]]\n", "line 2: 'tokens' is no key of this file; did you mean token?"),
        ("version = 1", "line 1: 'version' is no key of this file; known are token"),
        (TABLE + 'router = ["a"]', "line 5: 'router' is no key of this file; did you mean route or routes?"),
        (TABLE + 'route = "a"', "line 5: route: is for tokens with the role call"),
        (CALL_TABLE + 'routes = ["a"]\nroute = "b"', "line 6: route: 'b' is none of the token's routes"),
        (CALL_TABLE + "usd_per_day = 0", "line 5: usd_per_day: needs a number of US dollars without quotes, above 0"),
        (CALL_TABLE + "deep_usd_per_day = true", "line 5: deep_usd_per_day: needs a number"),
        (CALL_TABLE + 'paths = ["/v1/*/content"]', "line 5: paths: '/v1/*/content' must begin with /v1/"),
        (CALL_TABLE + "graded = 0", "line 5: graded: needs true or false"),
        (TABLE.replace("act", "admin"), "line 3: role: 'admin' is no role; roles are read, act, content, send, "),
        (TABLE.replace('"act"', "[]"), "line 3: role: needs a text in quotes, or a list of them"),
        (TABLE.replace('name = "ann"', ""), "line 1: name: needs 1 to 100 printable characters"),
        (TABLE.replace("ann", "a\\u0007"), "line 2: name: needs 1 to 100"),
        (TABLE.replace("sha256:", ""), "line 4: hash: needs sha256: and 64 hexadecimal digits"),
        (TABLE.replace(f"sha256:{HASH}", "s3same"), "line 4: hash: needs sha256:"),
        (TABLE + "expiry = 2027-01-31", "line 5: expiry: needs a date and time with an offset and without quotes"),
        (TABLE + "expiry = 2027-01-31T00:00:00", "line 5: expiry: needs"),
        (TABLE + 'expiry = "2027-01-31T00:00:00Z"', "line 5: expiry: needs"),
        (TABLE.replace('"act"', '"read"') + 'routes = ["a"]', "line 5: routes: the role read is for all routes"),
        (TABLE + 'routes = "*"\nroutes = "a"', "is not TOML: line 6: "),
        (TABLE + TABLE.replace(HASH, "0" * 64), "line 6: name: the token in line 1 has it already"),
        (TABLE + TABLE.replace("ann", "bob"), "line 8: hash: the token in line 1 has it already"),
        ('token = [{name = "ann"}]', "each token needs a table of its own, under a line [[token]]"),
        ('[token]\nname = "ann"', "each token needs a table of its own"),
    ],
)
def test_each_fault_is_named_with_its_line_and_key_and_no_secret(text, said):
    with pytest.raises(TokenFileError) as refused:
        parse(text)
    assert said in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (HASH, "s3same"))


def test_each_wrong_token_is_named_at_once():
    with pytest.raises(TokenFileError, match=r"^line 3: role: .*; line 9: 'x' is .*; line 8: hash: "):
        parse(TABLE.replace("act", "x") + TABLE.replace("sha256", "md5") + "x = 1")


def test_a_token_for_all_routes_may_say_so_and_an_offset_is_minded():
    (token,) = parse(TABLE + 'routes = ["a", "*"]\nexpiry = 2027-01-31T02:00:00+02:00')
    assert token.routes is None
    assert token.expires_at == datetime(2027, 1, 31, tzinfo=UTC).timestamp()


def test_a_secret_is_random_recognisable_and_of_256_bits():
    secret = new_secret(random.Random(18).choice)
    assert re.fullmatch("cdk_[0-9A-Za-z]{43}", secret)
    assert len({new_secret() for _ in range(100)}) == 100
    assert 62**43 > 2**256


# The tokens that a server knows


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(TABLE)
    path.chmod(0o600)
    return path


@pytest.fixture
def known(path, clock):
    return KnownTokens(["plain", ""], path, clock=clock, monotonic=clock)


def allows(known, secret, role=Role.ACT, route=None):
    return isinstance(known.allowed(secret, role, route), Token)


def replace(path, text):
    new = path.with_name("new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


@pytest.mark.parametrize("role", Role)
def test_plain_tokens_read_act_and_see_content_and_no_blank_one_does(known, role):
    assert allows(known, "plain", role, "support") == (role in PLAIN_ROLES)
    assert known.allowed("", role) == Refusal(401, f"needs a token with the role {role}")
    assert known.allowed("wrong", role).error == "invalid_token"


def test_without_any_token_the_refusal_says_which_setting_to_set():
    known = KnownTokens([""])
    assert known.allowed("x", Role.ACT) is known.allowed("", Role.ACT) is NO_TOKENS


def test_a_revoked_and_an_expired_token_are_refused_like_an_unknown_one(known, path, clock):
    expiry = datetime.fromtimestamp(clock.now + 60, UTC).isoformat()
    replace(path, TABLE + f"expiry = {expiry}")
    clock.now += LOOK_EVERY_S
    assert allows(known, "s3same")
    assert known.find("s3same").name == "ann"
    clock.now += 60
    unknown = known.allowed("never", Role.ACT)
    assert known.allowed("s3same", Role.ACT) == unknown
    assert known.find("s3same") is None
    replace(path, "")
    clock.now += LOOK_EVERY_S
    assert known.allowed("s3same", Role.ACT) == unknown
    assert allows(known, "plain")


def test_a_revocation_takes_effect_within_a_second_and_the_file_is_looked_at_once_a_second(
    known, path, clock, monkeypatch
):
    looks = []
    look = os.stat
    monkeypatch.setattr(os, "stat", lambda where, **more: looks.append(where) or look(where, **more))
    for _ in range(20):
        clock.now += 0.25
        assert allows(known, "s3same")
    assert looks.count(path) == 5
    change(path, lambda text: without_token(text, "ann"))
    clock.now += LOOK_EVERY_S
    assert not allows(known, "s3same")


def test_a_wrong_file_leaves_the_last_good_one_in_force_and_is_told_once(known, path, clock, caplog):
    def pass_time():
        for _ in range(3):
            clock.now += LOOK_EVERY_S
            assert allows(known, "s3same")

    for spoil, said in (
        (lambda: replace(path, TABLE.replace("act", "admin")), "line 3: role: 'admin' is no role"),
        (lambda: path.write_bytes(b"\n\xff"), "line 2: is not UTF-8"),
        (lambda: path.write_bytes(b"#" * (MOST_BYTES + 1)), "is larger than"),
        (path.unlink, "does not exist"),
        (path.mkdir, "cannot be read: Is a directory"),
    ):
        caplog.clear()
        spoil()
        pass_time()
        (record,) = caplog.records
        assert said in record.message
        assert str(path) in record.message
        assert record.message.endswith("; the tokens read before stay in force")
    path.rmdir()
    replace(path, TABLE.replace(HASH, hash_of("new")))
    clock.now += LOOK_EVERY_S
    assert (allows(known, "s3same"), allows(known, "new")) == (False, True)


@pytest.mark.parametrize("text", [None, "[[token]]", "\ufeff" + TABLE])
def test_at_the_start_a_missing_or_wrong_file_is_an_error(path, text):
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    if text and TABLE in text:  # a byte-order mark is no fault
        assert allows(KnownTokens([], path), "s3same")
    else:
        with pytest.raises(SettingsError, match=re.escape(str(path))):
            KnownTokens([], path)


@pytest.mark.parametrize(("mode", "said"), [(0o600, None), (0o640, None), (0o604, "be read"), (0o620, "be written")])
def test_a_file_that_others_can_read_or_write_is_told_of(path, mode, said, caplog):
    path.chmod(mode)
    KnownTokens([], path)
    assert [f"can {said} by other users" in record.message for record in caplog.records] == ([True] if said else [])


def test_a_limited_token_is_limited_to_its_routes_and_reads_all(path):
    path.write_text(TABLE.replace('"act"', '["read", "act", "send"]') + 'routes = ["support"]\n')
    known = KnownTokens([], path)
    assert all(allows(known, "s3same", role, "support") for role in (Role.READ, Role.ACT, Role.SEND))
    assert allows(known, "s3same", Role.READ, "*")
    for route in ("*", "other", ""):
        refusal = known.allowed("s3same", Role.SEND, route)
        assert (refusal.status, refusal.error, refusal.scope) == (403, "insufficient_scope", "send")
        assert not known.allowed("s3same", Role.SEND).covers(route)


# Commands


@pytest.fixture
def keys(monkeypatch, capsys, tmp_path):
    """Runs `keys ...` on a file that does not exist yet: exit status, standard output, standard error."""
    monkeypatch.setenv("CHEAPDEEP_API_TOKENS_FILE", str(tmp_path / "made.toml"))

    def run(*arguments):
        status = main(["keys", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_token_is_made_shown_once_listed_and_revoked(keys, tmp_path):
    path = tmp_path / "made.toml"
    status, out, _ = keys("make", "ann", "--role", "read", "--role", "act")
    secret = re.search("cdk_[0-9A-Za-z]{43}", out)[0]
    assert (status, path.stat().st_mode & 0o777, secret in path.read_text()) == (0, 0o600, False)
    assert Settings().api_tokens_file == path
    assert allows(KnownTokens([], path), secret)
    made = json.loads(keys("make", "svc", "--role", "send", "--route", "a", "--expiry", "90d", "--json")[1])
    assert (made["name"], made["role"], made["routes"], made["file"]) == ("svc", ["send"], ["a"], str(path))
    lasts = datetime.fromisoformat(made["expiry"]) - datetime.now(UTC)
    assert timedelta(days=89) < lasts <= timedelta(days=90)
    listed = json.loads(keys("list", "--json")[1])
    assert [(each["name"], each["routes"], each["expired"]) for each in listed] == [
        ("ann", ["*"], False),
        ("svc", ["a"], False),
    ]
    keys("make", "old", "--role", "act", "--expiry", "2020-01-01T00:00:00Z")
    assert "2020-01-01T00:00:00Z (expired)" in keys("list")[1]
    assert keys("revoke", "ann") == (0, "ann is revoked\n", "")
    assert not allows(KnownTokens([], path), secret)
    assert json.loads(keys("revoke", "svc", "--json")[1]) == {"revoked": "svc", "file": str(path)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("make", "ann", "--role", "act"), "the new token: name: the token in line 1 has it already"),
        (("make", "bob", "--role", "admin"), "'read', 'act', 'content', 'send', 'outcome', 'call'"),
        (("make", "bob"), "--role"),
        (("make", "bob", "--role", "read", "--route", "a"), "the new token: routes: the role read is for all"),
        (("make", "bob", "--role", "act", "--expiry", "2027-02-30"), "a moment such as 2027-01-31T00:00:00Z"),
        (("make", "bob", "--role", "act", "--expiry", "2027-01-31T00:00:00"), "needs an offset"),
        (("make", "bob", "--role", "act", "--expiry", "2x"), "is not a duration"),
        (("revoke", "bob"), "has no token 'bob'; tokens are ann"),
    ],
)
def test_a_wrong_command_says_why_and_leaves_the_file_as_it_was(keys, path, arguments, said):
    status, out, err = keys(*arguments, "--file", str(path))
    assert (status, out, path.read_text()) == (2, "", TABLE)
    assert said in " ".join(err.split())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_without_a_file_a_command_names_the_setting(keys, monkeypatch, path):
    monkeypatch.delenv("CHEAPDEEP_API_TOKENS_FILE")
    assert "set CHEAPDEEP_API_TOKENS_FILE" in keys("list")[2]
    assert "does not exist" in keys("list", "--file", str(path.with_name("gone")))[2]


def test_a_change_keeps_permissions_and_goes_through_a_link(path, tmp_path):
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    change(tmp_path / "link", lambda text: text + "# more\n")
    assert (tmp_path / "link").is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == (TABLE + "# more\n", 0o640)


def _add(path, number):
    for each in range(5):
        token = Token(name=f"{number}-{each}", hash=hash_of(f"{number}-{each}"), roles=frozenset({Role.SEND}))
        change(path, lambda text, token=token: with_token(text, token), creates=True)


def test_commands_at_the_same_time_lose_no_token(tmp_path):
    made = tmp_path / "made.toml"
    workers = [get_context("fork").Process(target=_add, args=(made, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {token.name for token in parse(made.read_text())} == {f"{a}-{b}" for a in range(3) for b in range(5)}


@pytest.fixture(autouse=True)
def warnings_of_the_package(caplog):
    caplog.set_level(logging.WARNING, logger="cheapdeep_ops")
