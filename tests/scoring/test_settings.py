"""Flags beat the environment, which beats the defaults; README.md's table is the settings' own."""

from __future__ import annotations

from dataclasses import fields

import pytest

from slipway_scoring.http import accepted, media_type
from slipway_scoring.serve import available_cpus, limit_threads
from slipway_scoring.settings import PREFIX, Settings, SettingsError, table
from tests.scoring.servers import SCORING


def test_where_a_setting_comes_from() -> None:
    assert Settings.read([], {}).port == 8080
    assert Settings.read([], {"SAGEMAKER_BIND_TO_PORT": "9000"}).port == 9000
    environment = {"SAGEMAKER_BIND_TO_PORT": "9000", PREFIX + "PORT": "7000"}
    assert Settings.read([], environment).port == 7000
    assert Settings.read(["--port", "6000"], environment).port == 6000
    assert Settings.read([], {}).model == "/opt/ml/model"
    assert Settings.read([], {"AZUREML_MODEL_DIR": "/a"}).model == "/a"
    assert Settings.read(["--model", "m"], {"AZUREML_MODEL_DIR": "/a"}).model == "m"
    assert Settings.read([], {PREFIX + "TOKEN": "t"}).token == "t"


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "x"],
        ["--workers", "0"],
        ["--time-limit", "-1"],
        ["--batching", "maybe"],
        ["--access-log", "some"],
        ["--tls-cert", "x"],
        ["--tls-cert", "/none", "--tls-key", "/none"],
        ["--root-path", "x/"],
    ],
)
def test_wrong_settings_are_named(flags: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read(flags, {})
    assert flags[0] in str(caught.value) or "TLS" in str(caught.value)


def test_the_token_is_no_flag() -> None:
    with pytest.raises(SystemExit):
        Settings.read(["--token", "x"], {})


def test_the_readme_shows_every_setting() -> None:
    text = (SCORING / "README.md").read_text()
    assert table() in text
    assert len(table().splitlines()) == len(fields(Settings)) + 2


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    limit_threads(2)
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("2", "7")
    assert available_cpus() >= 1


def test_content_negotiation() -> None:
    offers = ("application/json", "text/csv")
    assert accepted(None, offers) == "application/json"
    assert accepted("text/csv", offers) == "text/csv"
    assert accepted("text/csv;q=0.5, application/json;q=0.4", offers) == "text/csv"
    assert accepted("text/*", offers) == "text/csv"
    assert accepted("*/*", offers) == "application/json"
    assert accepted("text/csv;q=0", offers) is None
    assert accepted("image/png", offers) is None
    assert media_type('Text/CSV; Header="absent"') == ("text/csv", {"header": "absent"})
