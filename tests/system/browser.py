"""Chromium for the system tests: pages inside Airflow's frame, as a user who is signed in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, FrameLocator, Page, Playwright

from slipway_stack.keys import login_file
from tests.stack.running import RunningStack

CHROMIUM = "/usr/bin/chromium"
# Without a display, and without what Chromium would ask the Internet for.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync"]  # fmt: skip
_WAIT_MS = 60_000


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)


@dataclass
class Visitor:
    """Somebody at a browser."""

    page: Page
    stack: RunningStack
    troubles: list[str]  # what the browser complained about: script errors, blocked content

    @property
    def frame(self) -> FrameLocator:
        """Our page, in Airflow's."""
        return self.page.frame_locator("iframe")

    def open(self, path: str) -> FrameLocator:
        """Open one of our pages through Airflow's own address for it."""
        self.page.goto(f"{self.stack.airflow_url}/plugin/models/slipway{path}")
        return self.ready()

    def ready(self) -> FrameLocator:
        """Wait until our page has loaded all that makes it live."""
        self.frame.locator("html[data-ready]").wait_for()
        return self.frame

    def wait_for(self, pattern: str) -> None:
        """Wait until our frame is at an address."""
        self.page.wait_for_function(
            "(wanted) => new RegExp(wanted).test(document.querySelector('iframe')?.contentWindow.location.href)",
            arg=pattern,
        )
        self.ready()

    def choose(self, action: str) -> FrameLocator:
        """Open the actions menu and choose; returns the frame with the form in it."""
        self.frame.locator(".menu summary").first.click()
        self.frame.locator(f"[data-action={action}]").click()
        self.frame.locator("dialog[open] form").wait_for()
        return self.frame

    def submit(self, dag_id: str, state: str = "success") -> FrameLocator:
        """Send the open form and follow the run on its page to its end."""
        self.frame.locator("dialog button[type=submit]").click()
        return self.follow(dag_id, state)

    def follow(self, dag_id: str, state: str = "success") -> FrameLocator:
        """Follow a run on its page to its end."""
        self.wait_for(re.escape(f"/runs/{dag_id}/"))
        self.frame.locator("[data-state=success], [data-state=failed]").wait_for(timeout=180_000)
        said = self.frame.locator("main").inner_text()
        assert self.frame.locator(f"[data-state={state}]").count() == 1, said
        return self.frame


def passwords(stack: RunningStack) -> dict[str, str]:
    """Every user's password, as Airflow keeps them."""
    return dict(json.loads(login_file(stack.stack).read_text()))


@contextmanager
def visit(
    browser: Browser, stack: RunningStack, user: str = "admin", *, width: int = 1280, height: int = 860,
    dark: bool = False,
) -> Iterator[Visitor]:  # fmt: skip
    """Sign in with a browser of one's own; at the end, nothing that the browser complained about is let pass."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(_WAIT_MS)
    visitor = Visitor(page, stack, [])
    page.on("pageerror", lambda error: visitor.troubles.append(str(error)))
    page.on("console", lambda m: visitor.troubles.append(m.text) if "Content Security Policy" in m.text else None)
    try:
        page.goto(f"{stack.airflow_url}/auth/login")
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", passwords(stack)[user])
        page.click("button[type=submit]")
        page.get_by_role("link", name="Models").first.wait_for()
        yield visitor
        assert visitor.troubles == []
    finally:
        context.close()
