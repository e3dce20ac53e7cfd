"""Removes personal data and secrets from a text before the text is stored.

Patterns find candidates, and checks decide: Luhn's sum for cards (ISO/IEC 7812-1), mod 97 for IBANs (ISO 13616), the
`ipaddress` module for addresses. Data without a recognisable form (names, streets, dates of birth) stays.

Every quantifier is possessive, bounded, or stops where the next candidate may begin: so the time is linear.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

Redact: TypeAlias = Callable[[str], str]
"""A redaction hook: takes any `str`, from any thread, and returns it in a form that may be stored.

`redact` is the default. A team's own hook may call it and remove more, for example account numbers. A hook must not
store or log its argument. If it raises, nothing is stored.
"""

_Measure: TypeAlias = Callable[[str], int]
"""Returns how many characters at the start of a candidate are to be replaced; 0 if it is something else."""


_EQUAL_TO_ASCII: Final = (("\u0130", "i"), ("\u0131", "i"), ("\u017f", "s"), ("\u212a", "k"))
"""What `re.IGNORECASE` takes for a letter of ASCII: capital I with a dot, small I without one, long S, Kelvin."""


class _Folded:
    """A text in lower case, with "?" for each character beyond ASCII; every character keeps its place."""

    def __init__(self, text: str) -> None:
        # `casefold` lengthens some texts; `lower` keeps the small I without a dot and the long S.
        for char, letter in _EQUAL_TO_ASCII:
            text = text.replace(char, letter)
        self._text = text.encode("ascii", "replace").lower().decode("ascii")
        self._places: dict[tuple[str, ...], list[int]] = {}

    def places(self, prefixes: tuple[str, ...]) -> list[int]:
        """Where one of `prefixes` begins, in ascending order; remembered, because rules share their prefixes."""
        places = self._places.get(prefixes)
        if places is None:
            places = sorted(place for prefix in prefixes if prefix in self._text for place in self._places_of(prefix))
            self._places[prefixes] = places
        return places

    def _places_of(self, prefix: str) -> Iterator[int]:
        place = self._text.find(prefix)
        while place >= 0:
            yield place
            place = self._text.find(prefix, place + 1)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One kind of data: the group `it` of its pattern is the candidate. A match without `it` is text that must stay.

    `prefixes` and `prefilter` save time and change no result. Every match begins with one of the `prefixes`, written as
    in `_Folded`, so the pattern is tried there only. Where `prefilter` matches nothing, the rule replaces nothing.
    """

    kind: str
    pattern: re.Pattern[str]
    measure: _Measure = len
    prefixes: tuple[str, ...] = ()
    prefilter: re.Pattern[str] | None = None

    def matches(self, text: str, folded: _Folded) -> Iterator[re.Match[str]]:
        """The matches of `pattern.finditer(text)`; it may give none if the rule replaces nothing."""
        if self.prefixes:
            return self._matches_at(folded.places(self.prefixes), text)
        return self.pattern.finditer(text) if self.prefilter is None or self.prefilter.search(text) else iter(())

    def _matches_at(self, places: list[int], text: str) -> Iterator[re.Match[str]]:
        done = 0
        for place in places:
            if place >= done and (match := self.pattern.match(text, place)):
                yield match
                done = match.end()


_PASSES: Final = 8
_WITHHELD: Final = "[secret]"


def redact(text: str) -> str:
    """`text` with recognisable personal data and secrets replaced by their kind in brackets, like `[email]`.

    Idempotent. A text that still changes after several passes, which must be built for that, becomes `[secret]`.
    """
    # A replacement may uncover a candidate that was attached to it, so one pass is not enough.
    for _ in range(_PASSES):
        redacted = _one_pass(text)
        if redacted == text:
            return text
        text = redacted
    return _WITHHELD


def _one_pass(text: str) -> str:
    folded = _Folded(text)
    for rule in _rules():
        redacted = _replace(text, folded, rule)
        if redacted is not text:
            text, folded = redacted, _Folded(redacted)
    return text


def _replace(text: str, folded: _Folded, rule: _Rule) -> str:
    """`text` with the rule's candidates replaced from left to right; candidates may overlap."""
    pieces: list[str] = []
    done = 0
    for match in rule.matches(text, folded):
        start = match.start("it")
        length = rule.measure(match["it"]) if start >= done else 0
        if length:
            pieces += (text[done:start], f"[{rule.kind}]")
            done = start + length
    return "".join([*pieces, text[done:]]) if pieces else text


_NOT_PLACEHOLDER: Final = r"(?!\[+[\w\ ]{1,40}\])"
_SPACES: Final = r"\ \u00a0\u2009\u202f"  # French uses the narrow ones in numbers
_HYPHENS: Final = r"\-\u2010\u2011\u2013"
_GAPS: Final = _SPACES + _HYPHENS
_MONEY: Final = r"$\u20ac\u00a3"
_FLAGS: Final = re.ASCII | re.VERBOSE


def _has_digit(text: str) -> bool:
    return not text.isalpha() and any("0" <= char <= "9" for char in text)


def _digits(text: str) -> str:
    return "".join(char for char in text if "0" <= char <= "9")


_PEM: Final = partial(
    re.compile,
    r"""(?P<it>-----BEGIN\ [A-Z0-9\ ]*PRIVATE\ KEY(?:\ BLOCK)?-----
    (?:(?:(?!-----)[\s\S])*+-----END\ [A-Z0-9\ ]*+-----
    |(?:\s*+(?:Proc-Type|DEK-Info):[^\n]*+)*+[A-Za-z0-9+/=\s\\]*+))  # a key all the same if cut off""",
    _FLAGS,
)

_USERINFO: Final = partial(re.compile, r"""(?<=://)(?P<it>[^\s:/?\#@"<>\[\]]*+:[^\s/?\#"<>]+)@""", _FLAGS)

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
    |(?<![\w-])eyJ[\w-]{5,}+\.{1,2}[\w-]{5,}+(?:\.{1,2}[\w-]++){0,3}     # JWS and JWE, RFC 7515 and 7516
    )""",
    _FLAGS,
)
_TOKEN_PREFIXES: Final = (
    *("sk-", "sk_", "rk_", "whsec_", "xox", "xapp-", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-"),
    *("akia", "asia", "aiza", "eyj"),
)
_WEBHOOK: Final = partial(re.compile, r"hooks\.slack\.com/services/(?P<it>[\w/-]{20,}+)", _FLAGS)

_AUTHORIZATION: Final = partial(
    re.compile,
    r"""authorization\\*["']?[ \t]{0,4}[:=][ \t]{0,4}\\*["']?(?:basic|bearer|token|apikey)[ \t]{1,4}
    (?P<it>[\w.~+/=:-]++)""",
    _FLAGS | re.IGNORECASE,
)
_BEARER: Final = partial(re.compile, r"(?<![a-z])bearer[ \t]{1,4}(?P<it>[\w.~+/-]{8,}+=*+)", _FLAGS | re.IGNORECASE)

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
    _FLAGS | re.IGNORECASE,
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
    digits = _digits(value)
    is_password = digits and (digits != value or len(digits) >= _SPOKEN_DIGITS) and value[0] != "["
    return len(value) if is_password else 0


def _bearer(value: str) -> int:
    """The length of a bearer token, which has digits or at least _LONG_BEARER characters."""
    # "bearer authentication" has neither.
    value = value.rstrip(".")
    return len(value) if _has_digit(value) or len(value) >= _LONG_BEARER else 0


def _token(value: str) -> int:
    return 0 if value.startswith("sk-") and not _has_digit(value) and not value.startswith("sk-ant-") else len(value)


def _mixed(value: str) -> int:
    return len(value) if _has_digit(value) and any(map(str.isalpha, value)) else 0


# Narrower than RFC 5322's atoms, so that a match leaves out the `to=` of `to=a@b.example`, and quotes.
_EMAIL: Final = partial(
    re.compile,
    r"""(?<![\w.%+&-])(?<![\w.%+&-]')
    (?P<it>[\w.%+&-]++(?:'[\w.%+&-]++)*+@(?![0-9]x\.)[^\W_]++(?:-++[^\W_]++)*+(?:\.[^\W_]++(?:-++[^\W_]++)*+)++)""",
    re.VERBOSE,
)
_TOP_LEVEL: Final = re.compile(r"[^\W\d_]{2,}+$|xn--")


def _email(address: str) -> int:
    """The length of an address, which must end in a top-level domain; `react@18.2.0` is not an address."""
    return len(address) if _TOP_LEVEL.match(address[address.rindex(".") + 1 :]) else 0


_IBAN_REGISTRY: Final = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24
FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32
LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24
RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
"""Country codes with the lengths of IBANs, from https://www.swift.com/standards/data-standards/iban (ISO 13616-2)."""

_IBAN_LENGTHS: Final = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}
# The digit comes first, and the rest is in a lookbehind, because the engine skips to digits. Cards and `+` likewise.
_IBAN: Final = partial(
    re.compile,
    rf"""[0-9](?<=
    (?<![A-Za-z0-9])(?=(?P<it>[A-Za-z]{{2}}[0-9]{{2}}(?:[{_GAPS}]?[A-Za-z0-9]){{11,30}}))
    [A-Za-z]{{2}}[0-9])""",
    _FLAGS,
)
_IBAN_MODULUS: Final = 97


def _iban(candidate: str) -> int:
    """The length of the IBAN at the start of `candidate`, which may go on with the next word; 0 if there is none."""
    end = _end_of(candidate, _IBAN_LENGTHS.get(candidate[:2].upper(), 0))
    plain = "".join(filter(str.isalnum, candidate[:end])).upper()
    number = "".join(str(int(char, 36)) for char in plain[4:] + plain[:4])
    return end if number and int(number) % _IBAN_MODULUS == 1 else 0


def _end_of(candidate: str, wanted: int) -> int:
    """The position after the first `wanted` letters and digits; 0 if a word does not end there."""
    places = [place for place, char in enumerate(candidate) if char.isalnum()]
    if not 0 < wanted <= len(places):
        return 0
    end = places[wanted - 1] + 1
    return 0 if candidate[end : end + 1].isalnum() else end


# First digits and lengths by scheme: Visa, Mastercard and Mir, American Express, Diners, JCB, UnionPay, Discover,
# Maestro. They exclude other numbers that pass Luhn's sum: IMEIs (15 digits, often 35), timestamps, article numbers.
_SCHEME: Final = re.compile(
    r"""4(?:[0-9]{12}|[0-9]{15}|[0-9]{18}) | (?:5[1-5]|2[2-7])[0-9]{14} | 3[47][0-9]{13} | 3[0689][0-9]{12,17}
    |35[0-9]{14,17} | (?:6[0-9]|5[0678])[0-9]{14,17}""",
    _FLAGS,
)
_CARD: Final = partial(
    re.compile,
    rf"""[2-6](?<=
    (?<!\w)(?<!\w-)(?<![0-9]\.)(?=[2-6](?:[0-9]{{3}}|[0-9]{{5}}|[0-9]{{12,18}})(?![0-9]))  # the first group
    (?=(?P<it>[0-9](?:[{_GAPS}]?[0-9]){{12,19}}\w?))
    [2-6])""",
    _FLAGS,
)
_CARD_LENGTHS: Final = range(19, 12, -1)  # the longest first: a longer one may be a shorter one with its check code


def _card(candidate: str) -> int:
    """The length of the card number at the start of `candidate`, which may go on with a date; 0 if there is none."""
    number = _digits(candidate)
    fits = (
        wanted for wanted in _CARD_LENGTHS if _SCHEME.fullmatch(number, 0, wanted) and _passes_luhn(number[:wanted])
    )
    return next((end for wanted in fits if (end := _end_of(candidate, wanted))), 0)


def _passes_luhn(number: str) -> bool:
    odd, even = number[::-2], number[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(digit), 10)) for digit in even)) % 10 == 0


# Excludes the numbers that are never issued: https://www.ssa.gov/employer/randomization.html.
_SSN: Final = partial(
    re.compile,
    rf"""(?<![\w-])(?P<it>(?!000|666|9)[0-9]{{3}}([{_HYPHENS}])(?!00)[0-9]{{2}}\2(?!0000)[0-9]{{4}})(?!\w|-\w)""",
    _FLAGS,
)
_NAMED_SSN: Final = partial(
    re.compile,
    rf"""(?<![a-z])(?:ssn|social\ security(?:\ (?:number|no\.?))?)(?:\ is)?[\ :\#]{{0,3}}
    (?P<it>[0-9]{{3}}[{_GAPS}]?[0-9]{{2}}[{_GAPS}]?[0-9]{{4}})(?!\w)""",
    _FLAGS | re.IGNORECASE,
)

_IPV4: Final = partial(re.compile, r"(?<![\w.])(?P<it>[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?!\w|\.[0-9])", _FLAGS)
_IPV6: Final = partial(
    re.compile,
    r"""(?:(?<![\w:.])|(?<=[G-Zg-z]:))(?<![\w)\]]\[)  # x[::2] is a slice
    (?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)(?P<it>[0-9A-Fa-f:]++(?:(?:\.[0-9]{1,3}){3})?)(?!\w)""",
    _FLAGS,
)


def _ip(candidate: str) -> int:
    """The length of an IP address; 0 if it is not valid, or is reserved."""
    # Reserved ones are mostly code: `a::b` is a valid IPv6 address too.
    if candidate.endswith(":") and not candidate.endswith("::"):
        candidate = candidate[:-1]
    try:
        address = ip_address(candidate)
    except ValueError:
        return 0
    return len(candidate) if _is_in_use(address) else 0


def _is_in_use(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return True
    return not address.is_reserved or address.is_loopback or address.ipv4_mapped is not None


_ORDER: Final = r"""
    (?<![a-z])(?:order|ticket|invoice|case|ref(?:erence)?|tracking|isbn(?:-1[03])?|imei|sku|serial|part|item|article
    |bestell(?:ung|-?nummer|-?nr)|auftrag(?:s-?nummer|s-?nr)?|rechnung(?:s-?nummer|s-?nr)?|kunden(?:-?nummer|-?nr)
    |sendung(?:s-?nummer)?|vorgang(?:s-?nummer)?|artikel(?:-?nummer|-?nr)?|commande|facture|colis|dossier|suivi)
    (?:[ ](?:number|no|nr|id|n\u00b0))?[ .:\#]{0,3}(?:[ ]?(?:is|ist|est)[ ])?[0-9][0-9./-]*+"""
_NAMED: Final = r"""
    (?<![a-z])(?:(?:tele)?phone|telefon|t[e\u00e9\u00c9]l(?:[e\u00e9\u00c9]phone)?|mobile?|cell|handy|portable|fax
    |whatsapp|rufnummer)
    (?:[ -]?(?:number|nummer|no|nr))?[ .:=\#\u00a0\u202f]{0,4}(?:(?:is|ist|est|at|unter)[ ])?"""
_NAMED_PREFIXES: Final = ("phone", "tel", "t?l", "mobil", "cell", "handy", "portable", "fax", "whatsapp", "rufnummer")
"""`t?l` is what `_Folded` makes of `t\u00e9l`."""

_DIALLED: Final = rf"[{_GAPS}./()]"
_ATTACHED: Final = rf"[\w+./\#{_HYPHENS}{_MONEY}]"
_BEFORE: Final = rf"(?<!{_ATTACHED})"
_AFTER: Final = rf"(?!\w|[.{_HYPHENS}][0-9]|[ ]?[%{_MONEY}])"
_PHONE_FLAGS: Final = _FLAGS | re.IGNORECASE

# Formats of E.164 and E.123, of the North American plan (3-3-4), and with a trunk 0 as in Germany, Britain, Switzerland
# and France. Digits without a sign of a telephone stay, because they may be any number.
_INTERNATIONAL: Final = partial(
    re.compile,
    rf"\+(?<=(?<![\w+])(?=(?P<it>\+[1-9](?:{_DIALLED}{{0,3}}[0-9]){{7,15}}){_AFTER})\+)",
    _PHONE_FLAGS,
)
_NAMED_PHONE: Final = partial(
    re.compile,
    rf"{_NAMED}(?P<it>[(+]?[0-9](?:{_DIALLED}{{0,2}}[0-9]){{5,14}}){_AFTER}",
    _PHONE_FLAGS,
)
_NATIONAL: Final = partial(
    re.compile,
    rf"""{_ORDER}|{_BEFORE}(?P<it>
    00[ ]?[1-9][0-9]{{0,2}}[{_GAPS}/]\(?[0-9](?:{_DIALLED}{{0,2}}[0-9]){{6,12}}
    |00[34][0-9](?:[{_GAPS}/]?[0-9]){{8,11}}
    |(?:1[{_GAPS}.])?(?:\([1-9][0-9]{{2}}\)[ ]?[0-9]{{3}}[{_GAPS}.]|[1-9][0-9]{{2}}([{_GAPS}.])[0-9]{{3}}\2)[0-9]{{4}}
    |0[1-9]([{_GAPS}./])[0-9]{{2}}(?:\3[0-9]{{2}}){{3}}
    |0[67][0-9]{{8}}|07[0-9]{{9}}|01[5-7][0-9]{{8,9}}
    |(?=(?:[{_GAPS}/()]{{0,3}}[0-9]){{9}})
     (?:\(0[1-9][0-9]{{1,4}}\)[ ]?|0[1-9][0-9]{{1,4}}[ ]?[{_GAPS}/][ ]?)
     [0-9]{{2,8}}(?:[ ]?[{_GAPS}][ ]?[0-9]{{1,8}}){{0,4}}
    ){_AFTER}""",
    _PHONE_FLAGS,
)
_NO_PHONE: Final = re.compile(
    r"""\+?[0-9]{1,3}(?:[^0-9][0-9]{3})*[^0-9]000$  # grouped by thousands
    |\+[0-9]{1,3}\.[0-9]+$                         # a decimal fraction
    |.*[0-9]{4}-[0-9]{2}-[0-9]{2} | .*\b[0-9]{1,2}([./-])[0-9]{1,2}\1(?:19|20)[0-9]{2}\b  # a date""",
    _FLAGS,
)
_MOST_DIGITS: Final = 16  # E.164 allows 15, and people write the trunk 0 too


def _phone(candidate: str) -> int:
    return 0 if _NO_PHONE.match(candidate) or len(_digits(candidate)) > _MOST_DIGITS else len(candidate)


# Prefilters begin with a literal or a character class: the engine skips to those faster than it tries a whole pattern.
_USERINFO_PREFILTER: Final = partial(re.compile, r"""://[^\s/?\#"<>]+@""", _FLAGS)
_EMAIL_PREFILTER: Final = partial(re.compile, r"@(?<=[\w.%+&-]@)[^\W_]++(?:-++[^\W_]++)*+\.[^\W_]", re.VERBOSE)
_SSN_PREFILTER: Final = partial(re.compile, rf"[0-9][0-9]{{2}}[{_HYPHENS}][0-9]{{2}}[{_HYPHENS}][0-9]{{4}}", _FLAGS)
_IPV6_PREFILTER: Final = partial(re.compile, r":(?: :[0-9A-Fa-f:]{0,40}+(?!\w) | (?:[0-9A-Fa-f]{1,4}:){5})", _FLAGS)
_IPV4_PREFILTER: Final = partial(re.compile, r"\.(?<=[0-9]\.)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]", _FLAGS)
_NATIONAL_PREFILTER: Final = partial(
    re.compile,
    rf"""[(0-9](?: (?<=0)(?<!{_ATTACHED}0)(?:{_DIALLED}{{0,3}}[0-9]){{8}}
    |(?<=\()[0-9]{{3,6}}\)(?:{_DIALLED}{{0,3}}[0-9]){{3}} | [0-9]{{2}}[{_GAPS}.][0-9]{{3}}[{_GAPS}.][0-9]{{4}})""",
    _FLAGS,
)


@cache
def _rules() -> tuple[_Rule, ...]:
    """The rules in their order, with compiled patterns."""
    # Cached and not a constant: compiling takes 10 ms, which a process that stores no text saves.
    # Secrets first, because they may contain anything; rules with a check before those without; telephones last.
    # The patterns of _PEM and _WEBHOOK start with a literal themselves.
    return (
        _Rule("secret", _PEM()),
        _Rule("secret", _USERINFO(), prefilter=_USERINFO_PREFILTER()),
        _Rule("secret", _QUOTED_SECRET(), _assigned_secret, prefixes=_KEY_PREFIXES),
        _Rule("secret", _BARE_SECRET(), _assigned_secret, prefixes=_KEY_PREFIXES),
        _Rule("secret", _SPOKEN(), _spoken_secret, prefixes=_KEY_PREFIXES),
        _Rule("secret", _AUTHORIZATION(), prefixes=("authorization",)),
        _Rule("secret", _BEARER(), _bearer, prefixes=("bearer",)),
        _Rule("secret", _TOKEN(), _token, prefixes=_TOKEN_PREFIXES),
        _Rule("secret", _WEBHOOK()),
        _Rule("secret", _LONG_SECRET(), _mixed, prefixes=("token", "secret", "key")),
        _Rule("email", _EMAIL(), _email, prefilter=_EMAIL_PREFILTER()),
        _Rule("iban", _IBAN(), _iban),
        _Rule("card", _CARD(), _card),
        _Rule("ssn", _SSN(), prefilter=_SSN_PREFILTER()),
        _Rule("ssn", _NAMED_SSN(), prefixes=("ssn", "social security")),
        _Rule("ip", _IPV6(), _ip, prefilter=_IPV6_PREFILTER()),
        _Rule("ip", _IPV4(), _ip, prefilter=_IPV4_PREFILTER()),
        _Rule("phone", _INTERNATIONAL(), _phone),
        _Rule("phone", _NAMED_PHONE(), _phone, prefixes=_NAMED_PREFIXES),
        _Rule("phone", _NATIONAL(), _phone, prefilter=_NATIONAL_PREFILTER()),
    )
