"""The checks of the project: `nox -l` lists them, `nox` runs those of CI."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "tests", "coverage", "docs"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYPROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = ".[asgi,cli,emulator]"
MACHINES = ".[asgi,cli,dask,emulator,postgres,taskiq]"


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


@nox.session(python=["3.11", "3.12", "3.13", "3.14", "3.14t"])
def tests(session: nox.Session) -> None:
    """Run the tests on each version of Python that is installed."""
    session.install("-e", EXTRAS, *groups("tests"))
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
