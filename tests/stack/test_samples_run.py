"""Published sample code is run as it is, and what it prints is taken for what it says."""

from __future__ import annotations

import pytest

from slipway_stack.errors import StackError
from slipway_stack.samples import run_curl, run_python


def test_a_python_sample_sees_no_installed_package_and_no_setting_of_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "1")
    code = "import importlib.util, os\nprint([importlib.util.find_spec('httpx') is None, 'SECRET' in os.environ])"
    assert run_python(code) == [True, False]


def test_a_sample_that_fails_is_told_with_its_last_line() -> None:
    with pytest.raises(StackError, match="The Python sample fails: ZeroDivisionError: division by zero"):
        run_python("1 / 0")


def test_an_answer_that_is_none_is_told() -> None:
    with pytest.raises(StackError, match="The Python sample prints no predictions but: nothing"):
        run_python("")
    with pytest.raises(StackError, match="The Python sample prints no predictions but: <html>"):
        run_python("print('<html>')")


@pytest.mark.requires("curl")
def test_a_curl_sample_runs_in_a_plain_shell() -> None:
    assert run_curl("""echo '{"predictions": [1, "a"]}'""") == [1, "a"]
    with pytest.raises(StackError, match=r'The curl sample answers no predictions but: \{"error": "no"\}'):
        run_curl("""echo '{"error": "no"}'""")
