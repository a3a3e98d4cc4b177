"""The checks of the project: `nox -l` lists them, `nox` runs those of CI."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "public_types", "tests", "coverage", "docs"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYPROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = ".[asgi,cli,emulator]"
MACHINES = ".[asgi,cli,dask,emulator,postgres,taskiq]"
ALL_BUT_RAY = "arrow,asgi,cli,cloud,dask,emulator,httpx2,mcp,otel,postgres,taskiq"

#: The folders and files of tests that need nothing of the repository but themselves and the examples.
BEHAVIOUR = (
    *("api", "batch", "callbacks", "cli", "client", "corpus", "downloads", "emulator", "engine", "journal"),
    *("export", "mcp_server", "report", "sync", "transports"),
    *(f"test_{each}.py" for each in ("errors", "logging", "requests", "results", "secrets", "settings")),
)
#: What these tests share, and files that they read.
SHARED = ("tests", "examples", "docs", "pyproject.toml")


def groups(*names: str) -> tuple[str, ...]:
    """Return the requirements of the dependency groups *names*."""
    return nox.project.dependency_groups(PYPROJECT, *names)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and form."""
    session.install(*groups("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: everything with mypy, the public API with three more type checkers."""
    session.install("-e", EXTRAS, *groups("typing"))
    session.run("mypy")
    session.run("pyright")
    session.run("ty", "check")
    session.run("pyrefly", "check")


@nox.session
def public_types(session: nox.Session) -> None:
    """Check that every public name has a known type (100 %), also of the modules behind extras."""
    # Not editable: pyright looks for py.typed in the installed package.
    session.install(f".[{ALL_BUT_RAY}]", *groups("typing"))
    session.chdir(session.create_tmp())
    session.run("pyright", "--verifytypes", "ruxa_async", "--ignoreexternal")


@nox.session
def api(session: nox.Session) -> None:
    """Find what breaks the API since the last tag, or since `nox -s api -- REVISION`."""
    session.install(*groups("package"))
    session.run("python", ".ci/check_api.py", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build the sdist and the wheel, and check their files and their page on the package index."""
    session.install(*groups("package"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist", ".")
    session.run("twine", "check", "--strict", *map(str, Path("dist").glob("ruxa_async-*")))
    session.run("check-wheel-contents", "dist")
    session.run("python", ".ci/check_package.py")


@nox.session
def wheel(session: nox.Session) -> None:
    """Run the tests of behaviour on the installed wheel, without the source tree."""
    session.install("build", *groups("tests"))
    made = Path(session.create_tmp())
    session.run("python", "-m", "build", "-q", "--outdir", str(made / "dist"), ".")
    (built,) = (made / "dist").glob("*.whl")
    session.install(f"{built}[asgi,cli,emulator]")
    _run_elsewhere(session, made / "away", *(f"tests/{each}" for each in BEHAVIOUR))


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the tests of engine, client and transports on the lowest versions that pyproject.toml accepts."""
    session.install("uv")
    session.run(
        *("uv", "pip", "install", "-q", "--resolution", "lowest-direct", "--python", f"{session.bin}/python"),
        *(f".[{ALL_BUT_RAY}]", "--group", "tests"),
    )
    folders = ("tests/engine", "tests/api", "tests/client", "tests/transports", "tests/emulator", "tests/cli")
    _run_elsewhere(session, Path(session.create_tmp()) / "away", "-m", "not long", *folders)


def _run_elsewhere(session: nox.Session, folder: Path, *arguments: str) -> None:
    """Run pytest in *folder* on copies of the tests, so that only the installed package can be imported."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in SHARED:
        source = Path(name)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    session.chdir(folder)
    session.run("python", "-c", "import ruxa_async as r; assert 'site-packages' in r.__file__, r.__file__")
    session.run("pytest", *arguments, *session.posargs)


@nox.session
def workflows(session: nox.Session) -> None:
    """Check the workflows for what an attacker could use, without asking GitHub."""
    session.install(*groups("package"))
    session.run("zizmor", "--offline", ".")


@nox.session
def newcomer(session: nox.Session) -> None:
    """Measure the time from an empty folder to the first picture, async and sync; it must be under 60 s."""
    session.run("python", ".ci/newcomer")


@nox.session(python=["3.11", "3.12", "3.13", "3.14", "3.14t"])
def tests(session: nox.Session) -> None:
    """Run the tests on each version of Python that is installed."""
    wanted = groups("tests")
    if session.python == "3.14t":  # obstore has no wheel for it
        wanted = tuple(each for each in wanted if not each.startswith(("obstore", "moto")))
    session.install("-e", EXTRAS, *wanted)
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def crash(session: nox.Session) -> None:
    """Kill hundreds of batches at every failpoint and at random times, and show the counts."""
    session.install("-e", EXTRAS, *groups("tests"))
    session.env["RUXA_LONG"] = "1"
    session.run("pytest", "tests/crash", "--log-cli-level=INFO", "--timeout=900", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Buy 5,000 tasks of a service that is killed every few seconds, and show the counts."""
    session.install("-e", EXTRAS, *groups("tests"))
    session.env["RUXA_LONG"] = "1"
    session.run("pytest", "tests/crash/test_chaos.py", "--log-cli-level=INFO", *session.posargs)


@nox.session
def ray(session: nox.Session) -> None:
    """Run the tests of the Ray integration and of the Celery recipe; Ray takes about 300 MB."""
    session.install("-e", ".[emulator,postgres,ray]", "ray[data]", "celery", *groups("tests"))
    session.run(
        "pytest", "tests/integrations/test_ray.py", "tests/integrations/test_recipes.py", *session.posargs
    )


@nox.session
def airflow(session: nox.Session) -> None:
    """Run the test of the Airflow recipe; Airflow takes about 300 MB."""
    # Not the group tests: with its FastAPI only an older Airflow can be installed.
    session.install(
        "-e", ".[emulator]", "apache-airflow>=3.3", "pytest>=9", "pytest-timeout", "pytest-xdist", "trio"
    )
    session.run("pytest", "tests/integrations/test_recipes.py", "-k", "airflow", *session.posargs)


@nox.session
def machines(session: nox.Session) -> None:
    """Kill all parts of many machines hundreds of times, and measure them. It needs PostgreSQL and Redis."""
    session.install("-e", MACHINES, *groups("tests"))
    session.env["RUXA_LONG"] = "1"
    tests = ("tests/integrations", "tests/journal")
    session.run("pytest", *tests, "--log-cli-level=INFO", "--timeout=7200", *session.posargs)
    session.run("python", "-m", "benchmarks", "machines")


@nox.session(python="3.11")
def fuzz(session: nox.Session) -> None:
    """Fuzz the readers of replies, waits and journals for a minute each, or `nox -s fuzz -- SECONDS`."""
    session.install("-e", EXTRAS, *groups("fuzz"))
    seconds = session.posargs[0] if session.posargs else "60"
    for target in ("replies", "waits", "rows"):
        session.run("python", "tests/fuzz/fuzz.py", target, seconds)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests under coverage: 100 % of the engine, 95 % of the package."""
    session.install("-e", EXTRAS, *groups("tests"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report", "--include=ruxa_async/_engine/*", "--fail-under=100")
    session.run("coverage", "report", "--fail-under=95")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, and check its code, its links and that it needs no other host."""
    session.install("-e", MACHINES, *groups("tests", "docs"))
    session.run("zensical", "build", "--clean", "--strict")
    session.run("pytest", "tests/pages", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks: `nox -s bench -- NAME...`, or all of them and the report without a name."""
    session.install("-e", MACHINES, *groups("bench"))
    for peer in groups("peers"):  # one by one: a table names those that cannot be installed
        session.run("python", "-m", "pip", "install", "-q", peer, success_codes=range(256))
    session.run("python", "-m", "benchmarks", *(session.posargs or ("all", "report")))
