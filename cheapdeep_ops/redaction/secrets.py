"""Rules for secrets: passwords, keys and tokens, as vendors publish their forms."""

import re
from functools import partial
from typing import Final

from cheapdeep_ops.redaction.characters import digits_of, has_digit
from cheapdeep_ops.redaction.engine import FLAGS, SecretRule

_NOT_PLACEHOLDER: Final = r"(?!\[+[\w\ ]{1,40}\])"

_PEM: Final = partial(re.compile, r"(?P<it>-----BEGIN\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----)", FLAGS)
_FOOTER: Final = re.compile(r"-----END\ [A-Z0-9\ ]*+-----", FLAGS)
_CUT_OFF: Final = re.compile(r"(?:\s*+(?:Proc-Type|DEK-Info):[^\n]*+)*+[A-Za-z0-9+/=\s\\]*+", FLAGS)
"""What a key without an end has left: a key all the same."""


def _end_of_key(text: str, match: re.Match[str]) -> int:
    """Where a private key ends, however long it is: behind its last line, or where it was cut off."""
    footer = _FOOTER.match(text, max(text.find("-----", match.end()), 0))
    cut_off = _CUT_OFF.match(text, match.end())
    return footer.end() if footer and footer.start() >= match.end() else cut_off.end() if cut_off else match.end()


_USERINFO: Final = partial(re.compile, r"""(?<=://)(?P<it>[^\s:/?\#@"<>\[\]]*+:[^\s/?\#"<>]+)@""", FLAGS)

# As vendors publish them; lengths are lower bounds, because tokens have become longer before. Slack's and GitHub's:
# https://docs.slack.dev/authentication/tokens and
# https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github
_TOKEN: Final = partial(
    re.compile,
    r"""(?<![A-Za-z0-9])(?P<it>
    sk-ant-[\w-]{8,}+ | sk-[\w-]{20,}+                                   # Anthropic, OpenAI
    |[rs]k_(?:live|test)_\w{10,}+ | whsec_\w{16,}+                        # Stripe
    |xox[a-z]-[\w-]{10,}+ | xapp-[\w-]{10,}+                              # Slack
    |gh[oprsu]_\w{20,}+ | github_pat_\w{20,}+ | glpat-[\w-]{16,}+         # GitHub, GitLab
    |(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9]) | AIza[\w-]{30,}+           # AWS, Google
    |SG\.[\w-]{16,}+\.[\w-]{16,}+ | npm_[A-Za-z0-9]{30,}+                   # SendGrid, npm
    |pypi-AgE[\w-]{16,}+ | do[opr]_v1_[a-f0-9]{16,}+                      # PyPI, DigitalOcean
    |hf_[A-Za-z0-9]{20,}+ | ya29\.[\w-]{20,}+                             # Hugging Face, Google's OAuth
    |cdk_[A-Za-z0-9]{40,}+                                                # our own API tokens
    |sq0[a-z]{3}-[\w-]{20,}+ | EAAA[\w-]{40,}+                            # Square
    |shp(?:at|ca|pa|ss|tka|ua)_[A-Fa-f0-9]{16,}+                          # Shopify
    |gsk_[A-Za-z0-9]{20,}+ | xai-[A-Za-z0-9]{20,}+                        # Groq, xAI
    |(?<![\w-])eyJ[\w-]{5,}+\.{1,2}[\w-]{5,}+(?:\.{1,2}[\w-]++){0,3}     # JWS and JWE, RFC 7515 and 7516
    )""",
    FLAGS,
)
_TOKEN_PREFIXES: Final = (
    *("sk-", "sk_", "rk_", "whsec_", "xox", "xapp-", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-"),
    *("akia", "asia", "aiza", "eyj", "sg.", "npm_", "pypi-age", "doo_v1_", "dop_v1_", "dor_v1_", "hf_", "ya29."),
    "cdk_",
    *("sq0", "eaaa", "shp", "gsk_", "xai-"),
)
_WEBHOOK: Final = partial(re.compile, r"hooks\.slack\.com/services/(?P<it>[\w/-]{20,}+)", FLAGS)
_DISCORD_WEBHOOK: Final = partial(re.compile, r"/api/webhooks/[0-9]{10,20}/(?P<it>[\w-]{20,}+)", FLAGS)

# https://discord.com/developers/docs/reference#authentication: an id in base64, a time and a signature.
_DISCORD: Final = partial(
    re.compile, r"(?P<it>[MNO](?<![\w.-][MNO])[\w-]{22,30}+\.[\w-]{6}\.[\w-]{25,45}+)(?![\w-]|\.\w)", FLAGS
)
_DISCORD_PREFILTER: Final = partial(re.compile, r"\.[\w-]{6}\.[\w-]{25}", FLAGS)

# https://core.telegram.org/bots/api#authorizing-your-bot
_TELEGRAM: Final = partial(re.compile, r"(?P<it>[0-9](?<![\w.-][0-9])[0-9]{7,9}:[\w-]{35})(?![\w-])", FLAGS)
_TELEGRAM_PREFILTER: Final = partial(re.compile, r":[\w-]{35}(?![\w-])", FLAGS)

# https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
_AZURE: Final = partial(re.compile, r"(?:AccountKey|SharedAccessKey)=(?P<it>[A-Za-z0-9+/]{20,}+={0,2})", FLAGS)

_AUTHORIZATION: Final = partial(
    re.compile,
    r"""authorization\\*["']?[ \t]{0,4}[:=][ \t]{0,4}\\*["']?(?:basic|bearer|token|apikey)[ \t]{1,4}
    (?P<it>[\w.~+/=:-]++)""",
    FLAGS | re.IGNORECASE,
)
_BEARER: Final = partial(re.compile, r"(?<![a-z])bearer[ \t]{1,4}(?P<it>[\w.~+/-]{8,}+=*+)", FLAGS | re.IGNORECASE)

_LOGIN_WORD: Final = r"""(?:pass(?:word|wd|wort|phrase|code)|kennwort|mot\ de\ passe|(?<![a-z])(?:pwd|mdp))"""
_SECRET_KEY: Final = rf"""
    (?:{_LOGIN_WORD}
    |(?:api|app|client)[\ _-]?secret|api[\ _-]?key|secret[\ _-]?(?:access[\ _-]?)?key|private[\ _-]?key
    |(?:access|api|auth|refresh)[\ _-]?token)
    (?:_confirmation|[0-9])?"""
_KEY_PREFIXES: Final = (
    *("pass", "kennwort", "mot de passe", "pwd", "mdp"),
    *("api", "app", "client", "secret", "private", "access", "auth", "refresh"),
)
_BLANK: Final = r"[^\S\n]{0,4}"
_ASSIGNED: Final = rf"""\\*["'`]?{_BLANK}[:=]{{1,3}}>?{_BLANK}"""
_BARE: Final = r"""(?:(?![&;,]\s*+\w++\s*+[=:])[^\s"'`<>])++"""

_QUOTED_SECRET: Final = partial(
    re.compile,
    rf"""{_SECRET_KEY}{_ASSIGNED}(?P<open>\\*["'`]){_NOT_PLACEHOLDER}(?P<it>(?:(?!(?P=open))(?:\\[^\n]|[^\\\n]))++)""",
    re.VERBOSE | re.IGNORECASE,
)
_BARE_SECRET: Final = partial(
    re.compile,
    rf"""{_SECRET_KEY}{_ASSIGNED}(?!\\*["'`]){_NOT_PLACEHOLDER}(?P<it>{_BARE})""",
    re.VERBOSE | re.IGNORECASE,
)
_SPOKEN: Final = partial(
    re.compile,
    rf"""{_LOGIN_WORD}\s(?:is|was|ist|war|lautet|est)\s?:?\s["'`]?(?P<it>{_BARE})""",
    re.VERBOSE | re.IGNORECASE,
)
_LONG_SECRET: Final = partial(
    re.compile,
    r"""(?<![a-z])(?:token|secret|key)\\*["']?[ \t]{0,4}[:=][ \t]{0,4}\\*["']?(?P<it>[\w.~+/-]{16,}+=*+)""",
    FLAGS | re.IGNORECASE,
)

_NO_SECRETS: Final = """
a an the i you we it my your how what why where when who which can could do does did is was are must should has
have will no not none null nil undefined true false wrong incorrect invalid expired forgotten forgot lost reset
change changed required optional minimum at least please str string bytes text field
wie was warum wo wann wer ich du sie er es wir der die das ein eine kein nicht ist muss soll bitte falsch
vergessen verloren
comment pourquoi où quand qui je j tu il elle nous vous le la les un une mon votre doit est pas oublié perdu
"""
"""Words that follow `password:` in a question about passwords or in a declaration of a field."""

_NO_SECRET_WORDS: Final = frozenset(_NO_SECRETS.split())

_FILLED_IN_LATER: Final = re.compile(r"\$\{|\$[A-Z_]+$|\{\{|\{\w*$|%[sd]$|%\(|\*+$|[A-Za-z_.]+[(\[]\)?$")
_CLOSING: Final = ".,;:)]}"
_SPOKEN_DIGITS: Final = 4
_LONG_BEARER: Final = 20


def _assigned_secret(value: str) -> int:
    """The length of a secret's value, without the punctuation of the sentence around it; 0 if it is a placeholder."""
    value = value.rstrip(_CLOSING)
    is_none = value.casefold().rstrip("?!") in _NO_SECRET_WORDS or _FILLED_IN_LATER.match(value)
    return 0 if is_none else len(value)


def _spoken_secret(value: str) -> int:
    """The length of a password in a sentence; it must have digits: some among letters, or at least _SPOKEN_DIGITS."""
    # Stricter than an assignment, because "my password is wrong" states no password.
    value = value.rstrip(_CLOSING)
    digits = digits_of(value)
    is_password = digits and (digits != value or len(digits) >= _SPOKEN_DIGITS) and value[0] != "["
    return len(value) if is_password else 0


def _bearer(value: str) -> int:
    """The length of a bearer token, which has digits or at least _LONG_BEARER characters."""
    # "bearer authentication" has neither.
    value = value.rstrip(".")
    return len(value) if has_digit(value) or len(value) >= _LONG_BEARER else 0


def _token(value: str) -> int:
    return 0 if value.startswith("sk-") and not has_digit(value) and not value.startswith("sk-ant-") else len(value)


def _mixed(value: str) -> int:
    return len(value) if has_digit(value) and any(map(str.isalpha, value)) else 0


# A prefilter begins with a literal or a class of characters: the engine skips to those faster than it tries a pattern.
_USERINFO_PREFILTER: Final = partial(re.compile, r"""://[^\s/?\#"<>]+@""", FLAGS)


def rules() -> tuple[SecretRule, ...]:
    """The rules in their order, with compiled patterns."""
    # The patterns of _PEM, _WEBHOOK, _DISCORD_WEBHOOK and _AZURE begin with a literal or a class themselves.
    return (
        SecretRule("secret", _PEM(), end=_end_of_key),
        SecretRule("secret", _USERINFO(), prefilter=_USERINFO_PREFILTER()),
        SecretRule("secret", _QUOTED_SECRET(), _assigned_secret, prefixes=_KEY_PREFIXES),
        SecretRule("secret", _BARE_SECRET(), _assigned_secret, prefixes=_KEY_PREFIXES),
        SecretRule("secret", _SPOKEN(), _spoken_secret, prefixes=_KEY_PREFIXES),
        SecretRule("secret", _AUTHORIZATION(), prefixes=("authorization",)),
        SecretRule("secret", _BEARER(), _bearer, prefixes=("bearer",)),
        SecretRule("secret", _TOKEN(), _token, prefixes=_TOKEN_PREFIXES),
        SecretRule("secret", _WEBHOOK()),
        SecretRule("secret", _DISCORD_WEBHOOK()),
        SecretRule("secret", _DISCORD(), prefilter=_DISCORD_PREFILTER()),
        SecretRule("secret", _TELEGRAM(), prefilter=_TELEGRAM_PREFILTER()),
        SecretRule("secret", _AZURE(), prefixes=("accountkey=", "sharedaccesskey=")),
        SecretRule("secret", _LONG_SECRET(), _mixed, prefixes=("token", "secret", "key")),
    )
