"""The HTTP addresses of guards and other services: which of them can be used. Pure functions."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_web_address(text: str) -> bool:
    """Whether `text` is an http or https URL with a host, and without characters that a URL cannot have."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError if it is not a valid port
        _ = (parts.hostname or "").encode("idna")
    except ValueError:
        return False
    # Of several @, readers of URLs disagree which one ends the password.
    is_clean = text.isascii() and text.isprintable() and " " not in text and parts.netloc.count("@") <= 1
    return is_clean and parts.scheme in ("http", "https") and bool(parts.hostname)


def is_guard_url(text: str) -> bool:
    """Whether a store's URL is the HTTP address of a guard."""
    return text.strip().casefold().startswith(("http:", "https:"))


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address is this machine's own."""
    if host.casefold() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def guard_url_trouble(text: str) -> str:
    """Why a guard's URL cannot be used, and what to write; '' if it can be used."""
    parts = urlsplit(text.strip())
    if not is_web_address(text.strip()) or parts.query or parts.fragment:
        return "needs a guard's URL of the form https://host:port, without a query"
    if parts.username is not None or parts.password is not None:
        return "has a user or a password in a guard's URL: remove it, and set CHEAPDEEP_GUARD_TOKEN"
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        return (
            "is a plain http:// URL of another machine, which would show the token to the network: write https:// (the "
            "guard serves it with CHEAPDEEP_TLS_CERT and CHEAPDEEP_TLS_KEY, or behind a proxy)"
        )
    return ""
