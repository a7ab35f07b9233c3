"""The house's plan, checked: arrows point down only, and nobody knows more than he must."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "veza"

# Who may import what of ours. `config`, `log` and `errors` are for all; a part may always import itself.
FOR_ALL = {"veza", "veza.config", "veza.disk", "veza.errors", "veza.grammar", "veza.log"}
MAY_IMPORT = {
    "veza.http": {"veza.actors", "veza.db", "veza.security", "veza.media", "veza.mail"},
    "veza.actors": {"veza.db", "veza.security", "veza.media"},
    "veza.db": set(),
    "veza.security": set(),
    "veza.media": set(),
    "veza.client": set(),
    "veza.mail": set(),
    "veza.tidy": {"veza.db"},
    "veza.indexing": {"veza.db"},
    "veza.config": set(),
    "veza.disk": set(),
    "veza.errors": set(),
    "veza.grammar": set(),
    "veza.log": set(),
    "veza.cli": {"veza.commands"},
    "veza.__main__": {"veza.cli"},
    "veza.__init__": set(),
    # These know everybody: the composition root, and the commands that use it.
    "veza.app": None,
    "veza.commands": None,
}
# Parts that know nothing of the product at all, so that they could leave it.
STRANGERS = {
    "veza.actors.kernel": {"veza.actors.kernel"},
    "veza.client": {"veza.client"},
    "veza.security": {"veza.security"},
    "veza.grammar": set(),
    "veza.disk": set(),
    "veza.errors": set(),
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["veza", *path.relative_to(PACKAGE).with_suffix("").parts]
        yield ".".join(parts), path


def part_of(module: str) -> str:
    """The second storey of the house a module belongs to: `veza.http.api.users` is in `veza.http`."""
    return ".".join(module.split(".")[:2])


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(module: str, path: Path) -> list[tuple[str, int]]:
    """Every module of ours that this one imports, anywhere in it, with the line."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(n.name, node.lineno) for n in node.names if n.name.split(".")[0] == "veza"]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively, which hides the direction"
            if node.module and node.module.split(".")[0] == "veza":
                for name in node.names:
                    # `from veza import log` names a module, `from veza.log import get` a thing in one.
                    deeper = f"{node.module}.{name.name}"
                    found.append((deeper if exists(deeper) else node.module, node.lineno))
    return found


def exists(module: str) -> bool:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def inside(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


MODULES = list(modules())


# Each test looks at all modules and names all that offend: one test a module would be a thousand.


def test_arrows_point_down_only() -> None:
    homeless = {part_of(module) for module, _ in MODULES} - MAY_IMPORT.keys()
    assert not homeless, "give these a place in the plan of the house, here and in docs/architecture.md"
    wrong = []
    for module, path in MODULES:
        part = part_of(module)
        allowed = MAY_IMPORT[part]
        if allowed is None:
            continue
        wrong += [
            f"{path}:{line} imports {imported}"
            for imported, line in imports(module, path)
            if imported not in FOR_ALL and not inside(imported, {part, *allowed})
        ]
    assert not wrong


def test_strangers_know_nothing_of_the_product() -> None:
    wrong = [
        f"{path}:{line} imports {imported}"
        for module, path in MODULES
        for stranger, allowed in STRANGERS.items()
        if inside(module, {stranger})
        for imported, line in imports(module, path)
        if not inside(imported, allowed)
    ]
    assert not wrong


def test_the_composition_root_alone_knows_everybody() -> None:
    storeys = {"veza.http", "veza.actors", "veza.db"}
    knowing = {
        module
        for module, path in MODULES
        if part_of(module) != "veza.http"
        and storeys <= {part_of(imported) for imported, _ in imports(module, path)}
    }
    assert knowing == {"veza.app"}


def test_nobody_reads_the_environment_but_the_settings_and_the_terminal() -> None:
    """It is taken from the settings."""
    wrong = [
        f"{path}:{node.lineno} reads the environment"
        for module, path in MODULES
        if not inside(module, {"veza.config", "veza.commands"})
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert not wrong


def test_every_file_says_first_why_it_is_there() -> None:
    silent = [str(path) for _, path in MODULES if tree(path).body and not ast.get_docstring(tree(path))]
    assert not silent
