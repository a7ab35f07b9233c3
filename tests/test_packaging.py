"""What the package says about itself is true: its dependencies, its command, its example settings."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

from veza import config

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distribution(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def imported(folder: str) -> set[str]:
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        if "peers" in path.parts:
            continue  # other servers, measured where somebody has installed what they need
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"veza", "tests", "bench"}


def providers(modules: set[str]) -> dict[str, set[str]]:
    by_module = importlib.metadata.packages_distributions()
    return {
        module: {name.lower().replace("_", "-") for name in by_module.get(module, [])} for module in modules
    }


def test_every_package_the_program_imports_is_asked_for() -> None:
    asked = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    for module, names in providers(imported("veza")).items():
        assert names & asked, f"{module} ({names or 'not installed'}) is not asked for by pyproject.toml"


def test_every_package_the_tests_import_is_asked_for() -> None:
    asked = {distribution(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]}
    for module, names in providers(imported("tests") | imported("bench")).items():
        assert names & asked, f"{module} ({names or 'not installed'}) is not asked for by pyproject.toml"


def test_every_dependency_has_a_floor_and_is_installed_above_it() -> None:
    for requirement in PROJECT["dependencies"]:
        name = distribution(requirement)
        floor = re.search(r">=([0-9.]+)", requirement)
        assert floor, f"{requirement} has no floor"
        installed = [int(part) for part in re.findall(r"\d+", importlib.metadata.version(name))[:3]]
        assert installed >= [int(part) for part in floor[1].split(".")], f"{name} is older than its floor"


def test_hypercorn_keeps_its_minor_for_the_door_uses_what_is_not_documented() -> None:
    (requirement,) = (r for r in PROJECT["dependencies"] if distribution(r) == "hypercorn")
    assert re.search(r">=0\.(\d+),<0\.(\d+)$", requirement)
    assert importlib.metadata.version("hypercorn").startswith("0.18.")


def test_the_example_settings_are_settings_and_can_be_read(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = re.findall(r"^#?([A-Z_]+)=", text, re.M)
    assert len(names) > 10
    assert set(names) <= config.variables()
    config.load({}, ROOT / ".env.example")
    # Uncommented as it stands, with secrets filled in, it must work as well.
    every = re.sub(r"^#([A-Z_]+=)", r"\1", text, flags=re.M)
    every = re.sub(r"^((?:JWT_SECRET|SECRET_KEY)=)$", rf"\1{'s' * 40}", every, flags=re.M)
    (tmp_path / ".env").write_text(every)
    assert config.load({}, tmp_path / ".env").production
