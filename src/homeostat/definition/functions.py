"""The user's functions: named `module:function`, found in the project's folder."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from homeostat.core.errors import BadInput
from homeostat.definition.mistakes import did_you_mean

# what was imported for which root, and from which state of its files
_loaded: dict[str, str] = {}


def load_function(name: str, root: Path) -> Callable[..., Any]:
    """Import `module:function` with the project's folder first on the path.

    Modules of another root, or of an earlier state of this one, are forgotten first, so that one
    process can work with several projects and sees edits. Raises BadInput with the remedy.
    """
    module_name, _, function_name = name.partition(":")
    module = _import(module_name, root.resolve(), name)
    function = getattr(module, function_name, None)
    if function is None:
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise BadInput(
            f"{module_name} has no function `{function_name}`",
            remedy=did_you_mean(function_name, known)
            or f"define `def {function_name}(...)` in {_shown(module, root)}",
        )
    if not callable(function):
        raise BadInput(
            f"{name} is not a function", expected="a function", found=type(function).__name__
        )
    return function  # type: ignore[no-any-return]


def check_arguments(function: Callable[..., Any], name: str, arguments: tuple[str, ...]) -> None:
    """That a function can be called with these positional arguments. Raises BadInput."""
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:
        return  # a built-in that does not tell its signature
    except TypeError as error:
        wanted = f"{name.partition(':')[2]}({', '.join(arguments)})"
        raise BadInput(
            f"{name} cannot be called as {wanted}: {error}",
            remedy=f"define it as `def {wanted}:`",
        ) from None


def code_digest(name: str, root: Path) -> str:
    """`sha256:...` of the function's name, its module's source and that of every module of the
    project which it imports, directly or not. Nothing is executed. Raises BadInput."""
    root = root.resolve()
    files = _sources(name.partition(":")[0], root)
    digest = hashlib.sha256(name.encode())
    for file in sorted(files):
        shown = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        content = file.read_bytes()
        digest.update(f"\0{shown.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return "sha256:" + digest.hexdigest()


def _import(module_name: str, root: Path, name: str) -> ModuleType:
    _forget_others(root)
    if _file_of(module_name, root) is None and not _installed(module_name):
        known = sorted(f.stem for f in root.glob("*.py"))
        function = name.partition(":")[2]
        meant = did_you_mean(module_name, known)
        raise BadInput(
            f"there is no module `{module_name}` in {root}",
            found=", ".join(f"{k}.py" for k in known) or "no Python files",
            remedy=meant or f"write {module_name}.py with a function `{function}`",
        )
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise BadInput(
            f"{module_name} cannot be imported: {_told(error, root)}",
            remedy=_import_remedy(error),
        ) from error
    finally:
        sys.dont_write_bytecode = written
    _check_origin(module, module_name, root)
    return module


def _check_origin(module: ModuleType, module_name: str, root: Path) -> None:
    wanted, origin = _file_of(module_name, root), getattr(module, "__file__", None)
    if wanted is not None and (origin is None or Path(origin).resolve() != wanted):
        raise BadInput(
            f"the module name `{module_name}` is taken by {origin or 'Python itself'}",
            remedy=f"rename {wanted.name}",
        )


def _forget_others(root: Path) -> None:
    """Put this root first on the path; forget modules of other roots and of former states."""
    state = _state(root)
    for known in [r for r, s in _loaded.items() if r != str(root) or s != state]:
        for module_name, module in list(sys.modules.items()):
            origin = getattr(module, "__file__", None)
            if origin and _is_own(Path(origin), Path(known)):
                del sys.modules[module_name]
        del _loaded[known]
        if known in sys.path:
            sys.path.remove(known)
    _loaded[str(root)] = state
    if sys.path[:1] != [str(root)]:
        sys.path.insert(0, str(root))


def _is_own(file: Path, root: Path) -> bool:
    """Whether a file is the project's own code (an environment inside the folder is not)."""
    return file.is_relative_to(root) and "site-packages" not in file.parts


def _state(root: Path) -> str:
    """Changes when a Python file of the project does."""
    digest = hashlib.sha256()
    for file in sorted(root.glob("*.py")) + sorted(root.glob("*/*.py")):
        digest.update(str(file).encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _file_of(module_name: str, root: Path) -> Path | None:
    stem = root.joinpath(*module_name.split("."))
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file():
            return file.resolve()
    return None


def _installed(module_name: str) -> bool:
    try:
        return importlib.util.find_spec(module_name) is not None
    except (ImportError, ValueError):
        return False


def _sources(module_name: str, root: Path) -> set[Path]:
    """The source of a module and of what it imports from the project."""
    first = _file_of(module_name, root)
    if first is None:
        spec = importlib.util.find_spec(module_name) if _installed(module_name) else None
        if spec is None or not spec.origin or not Path(spec.origin).is_file():
            raise BadInput(
                f"there is no module `{module_name}` in {root}",
                remedy="run `homeostat check`",
            )
        return {Path(spec.origin)}
    found, waiting = {first}, [first]
    while waiting:
        for imported in _imports(waiting.pop(), root):
            if imported not in found:
                found.add(imported)
                waiting.append(imported)
    return found


def _imports(file: Path, root: Path) -> set[Path]:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        raise BadInput(
            f"{file.name} line {error.lineno}: {error.msg}", remedy="correct this line"
        ) from None
    package = file.parent.relative_to(root).parts
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names.add(stem)
            names.update(f"{stem}.{alias.name}".lstrip(".") for alias in node.names)
    parts = {".".join(n.split(".")[: i + 1]) for n in names for i in range(n.count(".") + 1)}
    return {f for n in parts if n and (f := _file_of(n, root))}


def _told(error: BaseException, root: Path) -> str:
    """The user's error with the line of the user's code on which it arose."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name} line {error.lineno}: {error.msg}"
    own = [f for f in traceback.extract_tb(error.__traceback__) if _is_own(Path(f.filename), root)]
    place = f"{Path(own[-1].filename).name} line {own[-1].lineno}: " if own else ""
    return f"{place}{type(error).__name__}: {error}"


def _import_remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install `{error.name.partition('.')[0]}`, or correct the import"
    return "correct this line"


def _shown(module: ModuleType, root: Path) -> str:
    origin = Path(getattr(module, "__file__", None) or module.__name__)
    return (
        str(origin.relative_to(root.resolve())) if _is_own(origin, root.resolve()) else origin.name
    )
