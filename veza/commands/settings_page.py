"""The tables of settings in README.md and docs/settings.md, made from the settings themselves.

`python -m veza.commands.settings_page FILE…` writes them between the markers of those files; a test compares.
"""

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from veza.config import DATABASE_PARTS, GENERATED, SECTIONS, Field, Kind, fields
from veza.grammar import format_duration, format_size

BEGIN = "<!-- settings: made by make docs -->"
END = "<!-- end of settings -->"


def table(*, sections: bool = False) -> str:
    """All settings as Markdown: one table, or one for each section."""
    lines: list[str] = []
    for field in fields():
        if sections and field.attribute in SECTIONS:
            lines += ["", f"### {SECTIONS[field.attribute]}", "", *_head()]
        elif not lines:
            lines += _head()
        lines.append(_row(field.variable, _default(field), _doc(field)))
        if field.kind is Kind.DATABASE:
            lines += [_row(variable, "", doc) for variable, doc in DATABASE_PARTS.items()]
    return "\n".join(lines).strip()


def _head() -> list[str]:
    return ["| variable | default | what it is |", "|---|---|---|"]


def _row(variable: str, default: str, doc: str) -> str:
    return f"| `{variable}` | {default} | {doc} |"


def _doc(field: Field) -> str:
    """What it is, and what it may be where only some words will do."""
    if get_origin(field.type) is not Literal:
        return field.doc
    return f"{field.doc}: {', '.join(f'`{choice}`' for choice in get_args(field.type))}"


def _default(field: Field) -> str:
    value: Any = field.default
    if field.attribute in GENERATED:
        return "made once"
    if value is None or value == () or value == "":
        return ""
    if field.kind is Kind.DURATION:
        return f"`{format_duration(value)}`"
    if field.kind is Kind.SIZE:
        return f"`{format_size(value)}`"
    if isinstance(value, float) and value.is_integer():
        return f"`{int(value)}`"
    return f"`{value}`"


def renewed(text: str, *, sections: bool) -> str:
    """A page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(sections=sections)}\n\n{END}{after}"


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(
            renewed(path.read_text(encoding="utf-8"), sections=path.name != "README.md"), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
