"""Rules for personal data with a check: addresses, accounts, cards, and numbers of social security."""

import re
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from cheapdeep_ops.redaction.characters import GAPS, HYPHENS, digits_of
from cheapdeep_ops.redaction.engine import FLAGS, SecretRule

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
    (?<![A-Za-z0-9])(?=(?P<it>[A-Za-z]{{2}}[0-9]{{2}}(?:[{GAPS}]?[A-Za-z0-9]){{11,30}}))
    [A-Za-z]{{2}}[0-9])""",
    FLAGS,
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
    FLAGS,
)
_CARD: Final = partial(
    re.compile,
    rf"""[2-6](?<=
    (?<!\w)(?<!\w-)(?<![0-9]\.)(?=[2-6](?:[0-9]{{3}}|[0-9]{{5}}|[0-9]{{12,18}})(?![0-9]))  # the first group
    (?=(?P<it>[0-9](?:[{GAPS}]?[0-9]){{12,19}}\w?))
    [2-6])""",
    FLAGS,
)
_CARD_LENGTHS: Final = range(19, 12, -1)  # the longest first: a longer one may be a shorter one with its check code


def _card(candidate: str) -> int:
    """The length of the card number at the start of `candidate`, which may go on with a date; 0 if there is none."""
    number = digits_of(candidate)
    fits = (
        wanted for wanted in _CARD_LENGTHS if _SCHEME.fullmatch(number, 0, wanted) and _passes_luhn(number[:wanted])
    )
    return next((end for wanted in fits if (end := _end_of(candidate, wanted))), 0)


def _passes_luhn(number: str) -> bool:
    odd, even = number[::-2], number[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(digit), 10)) for digit in even)) % 10 == 0


# Other marks stand between groups of four, or of American Express's four, six and five, and nowhere else: a version
# number or a date may have them too.
_MARKED_CARD: Final = partial(
    re.compile,
    r"""(?P<it>[2-6](?<![\w./-][2-6])[0-9]{3}([._/])
    (?:[0-9]{4}\2[0-9]{4}\2[0-9]{1,7}|[0-9]{6}\2[0-9]{4,5}))(?!\w|[._/-][0-9])""",
    FLAGS,
)
_MARKED_PREFILTER: Final = partial(re.compile, r"[._/](?<=[0-9]{4}[._/])[0-9]{4,6}[._/][0-9]{4}", FLAGS)

# Excludes the numbers that are never issued: https://www.ssa.gov/employer/randomization.html.
_SSN: Final = partial(
    re.compile,
    rf"""(?<![\w-])(?P<it>(?!000|666|9)[0-9]{{3}}([{HYPHENS}])(?!00)[0-9]{{2}}\2(?!0000)[0-9]{{4}})(?!\w|-\w)""",
    FLAGS,
)
_NAMED_SSN: Final = partial(
    re.compile,
    rf"""(?<![a-z])(?:ssn|social\ security(?:\ (?:number|no\.?))?)(?:\ is)?[\ :\#]{{0,3}}
    (?P<it>[0-9]{{3}}[{GAPS}]?[0-9]{{2}}[{GAPS}]?[0-9]{{4}})(?!\w)""",
    FLAGS | re.IGNORECASE,
)

# A version and a network are no address of anybody: `version 1.2.3.4`, `pkg==1.2.3.4`, `10.0.0.0/8`.
_VERSION: Final = r"""(?<![a-z])(?:v(?:er(?:sion)?)?|release|build)[ .:=-]{0,3}(?:is[ ])?[0-9]+(?:\.[0-9]+)++
    |(?:[=~<>!]=|~>|\^)[ ]?[0-9]+(?:\.[0-9]+)++"""
_IPV4: Final = partial(
    re.compile,
    rf"""{_VERSION}|(?<![\w.])(?P<it>[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}(?:/[0-9]{{1,2}}(?![\w/]|\.[0-9]))?)(?!\w|\.[0-9])""",
    FLAGS | re.IGNORECASE,
)
_IPV6: Final = partial(
    re.compile,
    r"""(?:(?<![\w:.])|(?<=[G-Zg-z]:))(?<![\w)\]]\[)  # x[::2] is a slice
    (?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)
    (?P<it>[0-9A-Fa-f:]++(?:(?:\.[0-9]{1,3}){3})?(?:/[0-9]{1,3}(?![\w/]|\.[0-9]))?)(?!\w)""",
    FLAGS,
)


def _ip(candidate: str) -> int:
    """The length of an IP address; 0 if it is not valid, is reserved, or is that of a network."""
    # Reserved ones are mostly code: `a::b` is a valid IPv6 address too.
    candidate, slash, _ = (whole := candidate).partition("/")
    if candidate.endswith(":") and not candidate.endswith("::"):
        candidate = candidate[:-1]
    try:
        address = ip_address(candidate)
    except ValueError:
        return 0
    return len(candidate) if _is_in_use(address) and not (slash and _is_network(whole)) else 0


def _is_network(text: str) -> bool:
    """Whether it is a network with more than one address, and no address in it."""
    try:
        return ip_network(text).num_addresses > 1
    except ValueError:
        return False


def _is_in_use(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return True
    return not address.is_reserved or address.is_loopback or address.ipv4_mapped is not None


_EMAIL_PREFILTER: Final = partial(re.compile, r"@(?<=[\w.%+&-]@)[^\W_]++(?:-++[^\W_]++)*+\.[^\W_]", re.VERBOSE)
_SSN_PREFILTER: Final = partial(re.compile, rf"[0-9][0-9]{{2}}[{HYPHENS}][0-9]{{2}}[{HYPHENS}][0-9]{{4}}", FLAGS)
_IPV6_PREFILTER: Final = partial(re.compile, r":(?: :[0-9A-Fa-f:]{0,40}+(?!\w) | (?:[0-9A-Fa-f]{1,4}:){5})", FLAGS)
_IPV4_PREFILTER: Final = partial(re.compile, r"\.(?<=[0-9]\.)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]", FLAGS)


def rules() -> tuple[SecretRule, ...]:
    """The rules in their order, with compiled patterns."""
    return (
        SecretRule("email", _EMAIL(), _email, prefilter=_EMAIL_PREFILTER()),
        SecretRule("iban", _IBAN(), _iban),
        SecretRule("card", _CARD(), _card),
        SecretRule("card", _MARKED_CARD(), _card, prefilter=_MARKED_PREFILTER()),
        SecretRule("ssn", _SSN(), prefilter=_SSN_PREFILTER()),
        SecretRule("ssn", _NAMED_SSN(), prefixes=("ssn", "social security")),
        SecretRule("ip", _IPV6(), _ip, prefilter=_IPV6_PREFILTER()),
        SecretRule("ip", _IPV4(), _ip, prefilter=_IPV4_PREFILTER()),
    )
