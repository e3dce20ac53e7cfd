"""Rules for telephone numbers. Digits without a sign of a telephone stay, because they may be any number."""

import re
from functools import partial
from typing import Final

from cheapdeep_ops.redaction.characters import GAPS, HYPHENS, MONEY, digits_of
from cheapdeep_ops.redaction.engine import FLAGS, SecretRule

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

_DIALLED: Final = rf"[{GAPS}./()]"
_ATTACHED: Final = rf"[\w+./\#{HYPHENS}{MONEY}]"
_BEFORE: Final = rf"(?<!{_ATTACHED})"
_AFTER: Final = rf"(?!\w|[.{HYPHENS}][0-9]|[ ]?[%{MONEY}])"
_PHONE_FLAGS: Final = FLAGS | re.IGNORECASE

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
    00[ ]?[1-9][0-9]{{0,2}}[{GAPS}/]\(?[0-9](?:{_DIALLED}{{0,2}}[0-9]){{6,12}}
    |00[34][0-9](?:[{GAPS}/]?[0-9]){{8,11}}
    |(?:1[{GAPS}.])?(?:\([1-9][0-9]{{2}}\)[ ]?[0-9]{{3}}[{GAPS}.]|[1-9][0-9]{{2}}([{GAPS}.])[0-9]{{3}}\2)[0-9]{{4}}
    |0[1-9]([{GAPS}./])[0-9]{{2}}(?:\3[0-9]{{2}}){{3}}
    |0[67][0-9]{{8}}|07[0-9]{{9}}|01[5-7][0-9]{{8,9}}
    |(?=(?:[{GAPS}/()]{{0,3}}[0-9]){{9}})
     (?:\(0[1-9][0-9]{{1,4}}\)[ ]?|0[1-9][0-9]{{1,4}}[ ]?[{GAPS}/][ ]?)
     [0-9]{{2,8}}(?:[ ]?[{GAPS}][ ]?[0-9]{{1,8}}){{0,4}}
    ){_AFTER}""",
    _PHONE_FLAGS,
)
_NO_PHONE: Final = re.compile(
    r"""\+?[0-9]{1,3}(?:[^0-9][0-9]{3})*[^0-9]000$  # grouped by thousands
    |\+[0-9]{1,3}\.[0-9]+$                         # a decimal fraction
    |.*[0-9]{4}-[0-9]{2}-[0-9]{2} | .*\b[0-9]{1,2}([./-])[0-9]{1,2}\1(?:19|20)[0-9]{2}\b  # a date""",
    FLAGS,
)
_MOST_DIGITS: Final = 16  # E.164 allows 15, and people write the trunk 0 too


def _phone(candidate: str) -> int:
    return 0 if _NO_PHONE.match(candidate) or len(digits_of(candidate)) > _MOST_DIGITS else len(candidate)


_NATIONAL_PREFILTER: Final = partial(
    re.compile,
    rf"""[(0-9](?: (?<=0)(?<!{_ATTACHED}0)(?:{_DIALLED}{{0,3}}[0-9]){{8}}
    |(?<=\()[0-9]{{3,6}}\)(?:{_DIALLED}{{0,3}}[0-9]){{3}} | [0-9]{{2}}[{GAPS}.][0-9]{{3}}[{GAPS}.][0-9]{{4}})""",
    FLAGS,
)


def rules() -> tuple[SecretRule, ...]:
    """The rules in their order, with compiled patterns."""
    return (
        SecretRule("phone", _INTERNATIONAL(), _phone),
        SecretRule("phone", _NAMED_PHONE(), _phone, prefixes=_NAMED_PREFIXES),
        SecretRule("phone", _NATIONAL(), _phone, prefilter=_NATIONAL_PREFILTER()),
    )
