"""Locks: the same text for the same requirements, nothing of this machine in it, readable refusals."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from slipway.bundles.limits import Site
from slipway.bundles.lock import make_lock
from slipway.bundles.requirements import parse_requirements, pins
from slipway.errors import Unavailable, UserError


def test_lock_is_deterministic_and_names_no_machine(site: Site) -> None:
    requirements = parse_requirements("scikit-learn\n# and\nNumPy >= 1.26 ; python_version > '3.8'\n")
    lock = make_lock(requirements, site)
    assert lock == make_lock(requirements, site)
    head, platform, *lines = lock.text.splitlines()
    assert head == f"# python: {sys.version_info[0]}.{sys.version_info[1]}"
    assert re.fullmatch(r"# platform: linux-\w+", platform)
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines)
    assert "://" not in lock.text
    names = {line.split("==")[0] for line in lines if "==" in line}
    assert {"scikit-learn", "numpy", "granian", "pandas"} <= names
    assert lock.digest != make_lock(parse_requirements("numpy"), site).digest


def test_pins_are_the_users_direct_requirements_only(site: Site) -> None:
    requirements = parse_requirements("Scikit_Learn>=1\nnumpy\ncolorama; sys_platform == 'win32'")
    pinned = pins(requirements, make_lock(requirements, site).text)
    assert [pin.split("==")[0] for pin in pinned] == ["numpy", "scikit-learn"]


def test_parsing_takes_what_pip_takes() -> None:
    text = "\ufeff# head\n\nnumpy  # why\npandas[excel,plot] \\\n  >=2,<3\nPyYAML==6.0.1 ; python_version < '4'\n"
    names = [str(requirement) for requirement in parse_requirements(text.removeprefix("\ufeff"))]
    assert names == ["numpy", "pandas[excel,plot]<3,>=2", 'PyYAML==6.0.1; python_version < "4"']
    assert parse_requirements("") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-r other.txt", "is an option for pip"),
        ("--index-url=https://x.example", "is an option for pip"),
        ("-c constraints.txt", "is an option for pip"),
        ("numpy --hash=sha256:abc", "has an option for pip"),
        ("--editable=.", "is an editable install"),
        ("https://x.example/a.whl", "is a URL"),
        ("a @ file:///tmp/a.whl", "is a URL"),
        ("hg+ssh://x.example/a", "is a URL"),
        ("git@x.example:a/b.git", "is a URL"),
        ("/tmp/a.whl", "is a path"),
        ("a-1.0-py3-none-any.whl", "is a path"),
        ("wheels/a.tar.gz", "is a path"),
        ("..", "is a path"),
        (".\\wheels\\a", "is a path"),
        ("numpy==", "is not a requirement"),
        ("numpy 1.26", "is not a requirement"),
        ("import numpy", "is not a requirement"),
        ("numpy; python_version >", "is not a requirement"),
        ("$(touch /tmp/x)", "is not a requirement"),
        ("numpy \\", "ends in a backslash"),
    ],
)
def test_other_lines_are_refused_with_their_number(line: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        parse_requirements(f"pandas\n{line}")
    assert str(refused.value).startswith("Line 2 of requirements.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slipway-no-such-package-at-all", "slipway-no-such-package-at-all was not found in the package registry"),
        ("docopt==0.6.2", "docopt==0.6.2 has no usable wheels"),
    ],
)
def test_unresolvable_requirements_are_explained(text: str, said: str, site: Site) -> None:
    with pytest.raises(UserError) as refused:
        make_lock(parse_requirements(text), site)
    assert said in str(refused.value)
    assert "--no-build" not in str(refused.value)


def test_index_that_does_not_answer_is_no_fault_of_the_user(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(Unavailable) as failed:
        make_lock(parse_requirements("numpy"), site)
    assert "127.0.0.1" not in str(failed.value), "an index's address may hold a password"


def test_resolving_has_a_time_limit(site: Site) -> None:
    hurried = replace(site, limits=replace(site.limits, lock_seconds=0.01))
    with pytest.raises(UserError, match="took longer than"):
        make_lock(parse_requirements("numpy"), hurried)


def test_airflows_own_variables_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.bundles.process import allowed_environment

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("UV_CACHE_DIR", "/cache")
    environment = allowed_environment()
    assert environment["UV_CACHE_DIR"] == "/cache"
    assert "secret" not in environment.values()
