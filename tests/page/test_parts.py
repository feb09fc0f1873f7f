"""The small parts: uploads, what a hanging service does to a page, figures, pictures, addresses."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import HTTPException

from slipway.bundles import uploads as area
from slipway.errors import NotFound, UserError
from slipway.web.page.endpoint import parse_figures, sample_text
from slipway.web.page.parts import Part, ask
from slipway.web.page.picture import Box, way
from slipway.web.page.render import safe_link, with_code
from slipway.web.page.uploads import receive
from slipway_scoring.metrics import Meters
from slipway_scoring.scoreboard import Scoreboard

MIB = 1024**2


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__BUNDLE_STORE", (tmp_path / "bundles").as_uri())
    monkeypatch.setenv("AIRFLOW__SLIPWAY__MAX_ARCHIVE_BYTES", str(600 * MIB))
    return tmp_path / "bundles"


async def body(count: int, first: bytes = b"PK\x03\x04", size: int = 64 * 1024) -> AsyncIterator[bytes]:
    yield first
    for _ in range(count):
        yield os.urandom(16) * (size // 16)


def test_an_upload_is_a_file_that_import_bundle_can_read(store: Path) -> None:
    uri, size = asyncio.run(receive(body(40), "../My model (1).zip", None))
    path = Path(uri.removeprefix("file://"))
    assert path.parent.parent == store / ".uploads"
    assert path.name == "My-model-1.zip"
    assert path.stat().st_size == size == 4 + 40 * 64 * 1024
    assert area.forget(store.as_uri(), uri)
    assert not path.parent.exists()


def test_an_upload_takes_the_same_memory_whatever_its_size(store: Path) -> None:
    asyncio.run(receive(body(200), "warm.zip", None))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, size = asyncio.run(receive(body(512, size=MIB), "big.zip", None))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert size > 512 * MIB
    assert grown < 32 * MIB


@pytest.mark.parametrize(
    ("sent", "declared", "status"),
    [
        (body(3), 9 * MIB, 413),
        (body(9, size=MIB), None, 413),
        (body(3, b"%PDF"), None, 415),
        (body(0, b""), 0, 415),
    ],
)
def test_what_is_no_bundle_is_refused_and_nothing_stays(
    store: Path, monkeypatch: pytest.MonkeyPatch, sent: AsyncIterator[bytes], declared: int | None, status: int
) -> None:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__MAX_ARCHIVE_BYTES", str(8 * MIB))
    with pytest.raises(HTTPException) as caught:
        asyncio.run(receive(sent, "x.zip", declared))
    assert caught.value.status_code == status
    assert not list(store.rglob("*.zip"))


def test_an_upload_that_breaks_leaves_nothing(store: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"PK" + bytes(3 * MIB)
        raise ConnectionResetError

    with pytest.raises(HTTPException, match="507"):
        asyncio.run(receive(breaking(), "x.zip", None))
    assert not list(store.rglob("*.zip"))


def test_only_uploads_are_removed_and_only_old_ones_unasked(store: Path) -> None:
    old, new = store / ".uploads" / "1000-a", store / ".uploads" / f"{int(time.time())}-b"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "x.zip").touch()
    for uri in (f"{store.as_uri()}/names/x.zip", "file:///etc/passwd", f"{store.as_uri()}/.uploads/../x.zip",
                f"{store.as_uri()}/.uploads/{new.name}"):  # fmt: skip
        assert not area.forget(store.as_uri(), uri)
    area.collect(store.as_uri())
    assert [path.name for path in (store / ".uploads").iterdir()] == [new.name]


def test_a_service_that_hangs_is_left_behind_and_does_not_hold_up_another() -> None:
    async def page() -> tuple[list[Part[None]], Part[int]]:
        began = asyncio.gather(*(ask("Slow", time.sleep, 5, seconds=0.3) for _ in range(20)))
        other = await ask("Quick", lambda: 7)
        return await began, other

    began = time.monotonic()
    slow, other = asyncio.run(page())
    assert other.value == 7
    assert {part.error for part in slow} == {"Slow has not answered within 0.3 seconds."}
    assert time.monotonic() - began < 20 * 5 / 2, "they were waited for one after the other"


def test_a_service_that_hangs_gets_no_more_threads_and_is_refused_at_once() -> None:
    over = threading.Event()
    asked: list[int] = []

    def hang(number: int) -> None:
        asked.append(number)
        over.wait()

    async def page(first: int) -> list[Part[None]]:
        questions = [asyncio.create_task(ask("Hung", hang, first + i, seconds=0.2)) for i in range(8)]
        if first == 0:
            await asyncio.sleep(0.05)
            questions[0].cancel()  # its browser went away
        return [p for p in await asyncio.gather(*questions, return_exceptions=True) if isinstance(p, Part)]

    before = threading.active_count()
    try:
        first = asyncio.run(page(0))
        again = [asyncio.run(page(8)) for _ in range(4)]
        assert threading.active_count() <= before + 8
    finally:
        over.set()
    assert {part.error for part in first} == {"Hung has not answered within 0.2 seconds."}
    refused = "Hung hangs: it still has 8 questions to answer, and is not asked any more."
    assert {part.error for parts in again for part in parts} == {refused}
    assert sorted(asked) == list(range(8)), "what was given up before it began never begins"
    while asyncio.run(ask("Hung", lambda: 7)).value != 7:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "says", "missing"),
    [(UserError("One sentence."), "One sentence.", False), (NotFound("Gone."), "Gone.", True),
     (RuntimeError("secret"), "S cannot be asked (RuntimeError): see the API server's log.", False)],
)  # fmt: skip
def test_a_failure_is_a_sentence(error: Exception, says: str, missing: bool) -> None:
    def fail() -> None:
        raise error

    assert asyncio.run(ask("S", fail)) == Part(None, says, missing)


def test_figures_are_those_of_scoring_alone() -> None:
    meters = Meters(Scoreboard(1), 0, {"model": "m"})
    invocations, ping = meters.number("/invocations"), meters.number("/ping")
    for seconds in (0.002, 0.002, 0.2):
        meters.request(invocations, 200, seconds)
    meters.request(invocations, 400, 0.0001)
    meters.request(ping, 200, 9.0)
    found = parse_figures(meters.render().decode())
    assert (found.requests, found.errors) == (4, 1)
    assert found.seconds == pytest.approx(0.2041)
    assert dict(found.buckets)[0.0025] == 3
    assert found.buckets[-1] == (None, 4)


def test_a_picture_holds_what_it_is_given_as_text() -> None:
    drawn = str(way([[Box("B", "<script>", '"><img>', "done")], [Box("V", "x", "y", "todo", 'a"b')]], "<l>"))
    assert "<script>" not in drawn
    assert "<img>" not in drawn
    assert 'href="a&#34;b"' in drawn
    assert "&lt;script&gt;" in drawn


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//evil", "", None, "JaVaScRiPt:x"])
def test_an_address_that_could_do_harm_is_no_link(url: str | None) -> None:
    assert safe_link(url) == ""


def test_help_is_text_with_code_in_it() -> None:
    assert with_code("Use `<b>` & <i>") == "Use <code>&lt;b&gt;</code> &amp; &lt;i&gt;"
    assert safe_link("https://mlflow.example/#/models") == "https://mlflow.example/#/models"


def test_a_sample_is_written_one_row_a_line() -> None:
    text = sample_text({"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}})
    assert [line.strip() for line in text.splitlines()][3:5] == ["[1],", "[2]"]
    assert sample_text({"instances": [1]}) == '{\n  "instances": [\n    1\n  ]\n}'
