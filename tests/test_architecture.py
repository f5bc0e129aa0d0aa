"""DESIGN §4 and STYLE §1 as tests: layers, the trusted base, lazy imports."""

import ast
import io
import subprocess
import sys
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import auditlog
from auditlog.build_verifier import sources

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "auditlog"
CORE_LINES = 2000  # of code, as `code_lines` counts them
CRYPTOGRAPHY = {"cryptography", "_cffi_backend", "_openssl"}  # with its bindings
NEEDS_THE_WORLD = {
    *("asyncio", "http", "logging", "os", "pathlib", "random", "secrets", "socket"),
    *("sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib"),
}
ANCHORS = {
    "auditlog.anchors",
    *(
        f"auditlog.anchors.{name}"
        for name in (
            *("attestation", "batch", "checking", "claim", "renewal", "revocation"),
            *("trust", "verdict"),
        )
    ),
    *(f"auditlog.anchors.{kind}" for kind in ("evm", "ots", "rfc3161")),
    *(f"auditlog.anchors.{kind}.check" for kind in ("evm", "ots", "rfc3161")),
}
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    path
    for folder in ("auditlog", "demo_service", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def file_of(module: str) -> Path:
    folder = ROOT / module.replace(".", "/")
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def newly_loaded(statement: str) -> set[str]:
    """Names of the modules that `statement` loads in a fresh interpreter."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules)\n"
        f"{statement}\n"
        "sys.stdout.write(chr(10).join(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def imported_by(path: Path) -> set[str]:
    """Full names of every module that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def imported_at_the_top(path: Path) -> set[str]:
    """Full names of the modules that a file imports when it is loaded."""
    return {
        name
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }


@pytest.mark.parametrize(
    ("module", "ours"),
    [
        ("auditlog.core.verify", set()),
        (
            "auditlog.verifier",
            {
                *("auditlog.verifier", "auditlog.verifier_compare"),
                *("auditlog.verifier_opened", "auditlog.verifier_output"),
            },
        ),
        ("auditlog.anchors.verdict", ANCHORS),
    ],
)
def test_a_verifier_loads_core_and_cryptography_only(
    module: str, ours: set[str]
) -> None:
    loaded = newly_loaded(f"import {module}")
    assert module in loaded
    foreign = {
        name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names
    }
    roots = {name.split(".")[0] for name in foreign}
    assert roots <= {"auditlog"} | CRYPTOGRAPHY
    above_core = {
        name
        for name in foreign
        if name.startswith("auditlog.") and not f"{name}.".startswith("auditlog.core.")
    }
    assert above_core >= ours
    # Kinds of anchors have pure modules of their own.
    kinds = tuple(f"auditlog.anchors.{kind}." for kind in ("evm", "ots", "rfc3161"))
    assert all(name.startswith(kinds) for name in above_core - ours)


def test_the_one_file_holds_what_its_verifier_can_come_to_load() -> None:
    assert {file_of(name) for name in ANCHORS} <= set(sources())
    names = {name_of(path) for path in sources()}
    assert names >= {name_of(path) for path in (PACKAGE / "core").glob("*.py")}
    rooms = ("anchors/", "core/", "monitor/", "verifier", "__init__.py")
    assert all(
        name.startswith(tuple(f"auditlog/{one}" for one in rooms)) for name in names
    )
    assert "auditlog/anchors/http.py" not in names


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_the_one_file_has_no_world_and_names_what_else_it_needs(path: Path) -> None:
    if path.name == "verifier.py":
        return  # it reads the files that it is given
    names = imported_by(path)
    roots = {name.split(".")[0] for name in names}
    assert not roots & NEEDS_THE_WORLD
    foreign = roots - sys.stdlib_module_names - {"auditlog", "cryptography"}
    # Crypto makes one hash of `evm` faster, and is not needed.
    assert foreign <= {"Crypto", "asn1crypto", "rfc3161_client"}
    loaded = {name.split(".")[0] for name in imported_at_the_top(path)}
    assert not foreign & loaded, "a package of an extra is loaded where it is needed"


def test_importing_the_package_loads_no_submodule() -> None:
    loaded = newly_loaded("import auditlog")
    assert {name for name in loaded if name.startswith("auditlog")} == {"auditlog"}


def test_public_names_resolve_on_first_use() -> None:
    for name in auditlog.__all__:
        assert getattr(auditlog, name) is getattr(auditlog, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        auditlog.nothing  # noqa: B018


def code_lines(source: str) -> int:
    """Count lines that a machine reads: no blank ones, comments or docstrings.

    A docstring is a string that stands as a statement of its own, wherever it does; a
    line that holds both code and a comment is code; each line of a statement counts.
    """
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented.update(range(node.lineno, (node.end_lineno or 0) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER}
    silent |= {tokenize.INDENT, tokenize.DEDENT}
    coded: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            coded.update(range(token.start[0], token.end[0] + 1))
    return len(coded - documented)


def test_a_line_of_code_is_what_a_machine_reads() -> None:
    source = (
        '"""Doc\n\nstring."""\n\n# comment\nA = (  # why\n    1,\n\n)\n"""Of A."""\n'
    )
    assert code_lines(source) == 3
    assert code_lines('def f() -> None:\n    """Nothing."""\n    x = """\n\n"""\n') == 4


def test_an_auditor_reads_core_in_an_afternoon() -> None:
    files = (PACKAGE / "core").glob("*.py")
    assert sum(code_lines(path.read_text("utf-8")) for path in files) <= CORE_LINES


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=name_of)
def test_core_needs_no_world_and_nobody_but_cryptography(path: Path) -> None:
    names = imported_by(path)
    ours = {name for name in names if name.split(".")[0] == "auditlog"}
    assert {name for name in ours if not name.startswith("auditlog.core")} <= {
        "auditlog"
    }
    roots = {name.split(".")[0] for name in names - ours}
    assert not roots & NEEDS_THE_WORLD
    assert roots <= sys.stdlib_module_names | {"cryptography"}


def test_imports_form_no_cycle() -> None:
    graph = grimp.build_graph(
        "auditlog", exclude_type_checking_imports=True, cache_dir=None
    )
    imports = {
        module: graph.find_modules_directly_imported_by(module)
        for module in graph.modules
    }
    assert "auditlog.core.merkle" in imports["auditlog.core.verify"]
    TopologicalSorter(imports).prepare()


def test_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    command = [str(linter), "--no-logo", "--no-cache"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_public_name_of_a_module_is_declared(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    defined = {node.name for node in tree.body if isinstance(node, kinds)}
    public = {name for name in defined if not name.startswith("_")}
    declared = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets)
    ]
    assert not public or declared, "a module with public names has __all__"
    assert public <= set(*declared)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_mocked(path: Path) -> None:
    banned = {"mock", "pytest_mock", "unittest.mock"}
    assert not imported_by(path) & banned, "write a fake that enforces the contract"
