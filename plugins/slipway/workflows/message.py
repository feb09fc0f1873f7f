"""The mail about an execution: a text and an HTML version of the same words."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

__all__ = ["compose"]

_TEMPLATES = Path(__file__).with_name("mail")


def compose(kind: str, to: list[str], sender: str, facts: dict[str, Any]) -> EmailMessage:
    """Return the mail.

    :param kind: `success` or `failure`.
    :param facts: what the templates in `mail/` show.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined
    )
    message = EmailMessage()
    outcome = "scored" if kind == "success" else "failed"
    # A header is one line, whatever the workflow is called.
    message["Subject"] = " ".join(f"[Slipway] {facts['workflow']} {outcome}".split())
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain="slipway")
    message.set_content(templates.get_template(f"{kind}.txt.j2").render(facts))
    message.add_alternative(templates.get_template(f"{kind}.html.j2").render(facts), subtype="html")
    return message
