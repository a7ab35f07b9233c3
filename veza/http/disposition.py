"""`Content-Disposition` for downloads (RFC 6266): a name for every client, the real one for those that can read it."""

import re
from typing import Final
from urllib.parse import quote

_LONGEST: Final = 200  # characters
# Paths, what some system forbids in names, controls, and what turns the direction of writing.
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f/\\"*:<>?|\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
_NOT_PLAIN: Final = re.compile(
    r"[^A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]"
)  # no quotes, and no % that some decode
_ATTR_CHAR: Final = "!#$&+-.^_`|~"  # RFC 8187, besides letters and digits


def attachment(filename: str) -> bytes:
    """The value that has a file saved under this name, whatever characters it holds."""
    name = _UNSAFE.sub("_", filename).strip(" .")[-_LONGEST:] or "download"
    plain = _NOT_PLAIN.sub("_", name)
    value = f'attachment; filename="{plain}"'
    if plain != name:
        value += f"; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe=_ATTR_CHAR)}"
    return value.encode("ascii")
