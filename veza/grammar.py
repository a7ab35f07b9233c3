"""How the values of settings are written: `1h30m`, `64KiB`, `https://veza.example`.

Pure text to value (durations and sizes also back). Every parser raises `ValueError` with the end of a sentence for
people, "is not a …", and never guesses. The duration grammar is Go's `time.ParseDuration`, because existing `.env`
files are written in it; what that refuses (a bare `30`) is refused here too, and so is a negative time.
"""

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

_DURATION_UNITS: Final = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),  # U+00B5 micro sign
    "μs": Decimal("1e-6"),  # U+03BC Greek mu
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_DURATION_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST: Final = Decimal(2**63) / 10**9  # Go counts nanoseconds in 63 bits
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)")
_SIZE_UNITS: Final = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", 1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}


def parse_duration(text: str) -> float:
    """Seconds for a duration such as `90s`, `1h30m`, `2.5ms` or `0`."""
    if text in ("0", "+0"):
        return 0.0
    rest = text.removeprefix("+")
    total, at = Decimal(0), 0
    while part := _DURATION_PART.match(rest, at):
        total += Decimal(part[1]) * _DURATION_UNITS[part[2]]
        at = part.end()
    if at == 0 or at != len(rest):
        raise ValueError("is not a duration: write it like 90s, 1h30m or 250ms")
    if total > _LONGEST:
        raise ValueError("is too long a duration")
    return float(total)


def format_duration(seconds: float) -> str:
    """The shortest way to write a duration that `parse_duration` reads back as the same number."""
    rest = Decimal(repr(float(seconds)))
    if rest < 0 or not rest.is_finite():
        raise ValueError("a duration is a finite number of seconds, zero or more")
    if rest == 0:
        return "0"
    if rest < 1:
        for unit in ("ms", "us"):
            amount = rest / _DURATION_UNITS[unit]
            if amount >= 1 or unit == "us":
                return f"{amount.normalize():f}{unit}"
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{_plain(amount)}{unit}" for amount, unit in parts if amount)


def parse_size(text: str) -> int:
    """Bytes for a size such as `64KiB`, `1.5 MB` or `4096`; `KiB` is 1024 bytes, `KB` 1000."""
    match = _SIZE.fullmatch(text)
    factor = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError("is not a size: write it like 65536, 64KiB or 10MB")
    if len(match[1]) > 20:
        raise ValueError("is too large a size")
    size = Decimal(match[1]) * factor
    if size != int(size):
        raise ValueError("is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact way to write a size in binary units."""
    if size < 0:
        raise ValueError("a size is zero bytes or more")
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return str(size)


def format_amount(size: float) -> str:
    """A size for people's eyes: two or three digits, not exact."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def parse_choice(text: str, choices: tuple[str, ...]) -> str:
    if text.lower() not in choices:
        raise ValueError(f"is none of {', '.join(choices)}")
    return text.lower()


def parse_bool(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("is neither true nor false")


def parse_integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError("is not a whole number")
    return int(text)


def parse_count(text: str) -> int:
    if (count := parse_integer(text)) < 1:
        raise ValueError("must be at least 1")
    return count


def parse_port(text: str) -> int:
    try:
        port = parse_integer(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ValueError("is not a port: it must be a number from 0 to 65535")
    return port


def parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not 0 < rate < 1e12:
        raise ValueError("must be a number above 0")
    return rate


def parse_base_url(text: str) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and url.hostname and url.port != 0 and "@" not in url.netloc
    except ValueError:
        good = False
    if not good or url.path not in ("", "/") or url.query or url.fragment or not text.isascii():
        raise ValueError("is not a base URL: write it like https://veza.example")
    return f"{url.scheme}://{url.netloc.lower()}"


def parse_origin(text: str) -> str:
    if text == "*":
        raise ValueError("may not be `*`: name the origins, credentials go with them")
    bare = text.removesuffix(":*")
    try:
        origin = parse_base_url(bare)
    except ValueError:
        raise ValueError(
            f"has {text[:60]!r}, which is not an origin: write it like https://app.example"
        ) from None
    return origin + text[len(bare) :]


def parse_network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"has {text[:60]!r}, which is neither an address nor a network") from None
    return str(network)


def list_of(item: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    return lambda text: tuple(item(part.strip()) for part in text.split(",") if part.strip())


def parse_database_url(text: str) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme in ("postgres", "postgresql") and bool(url.netloc or url.query) and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("is not a database URL: write it like postgresql://user:password@host:5432/name")
    return text
