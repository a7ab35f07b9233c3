"""The kernel knows no domain: it could leave this house as it is."""

import ast
import sys
from pathlib import Path

import veza.actors.kernel

FREE_TO_USE = {"trio", "outcome", "msgspec", "structlog", *sys.stdlib_module_names}


def test_the_kernel_imports_nothing_of_the_product() -> None:
    folder = Path(veza.actors.kernel.__file__).parent
    files = sorted(folder.glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            else:
                continue
            for name in names:
                own = name == "veza.actors.kernel" or name.startswith("veza.actors.kernel.")
                assert own or name.partition(".")[0] in FREE_TO_USE, f"{file.name} imports {name}"
