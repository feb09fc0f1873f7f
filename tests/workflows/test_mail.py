"""Mail through a real SMTP server, and through none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from slipway.errors import UserError
from slipway.operators.workflows import NotifyOperator, ResolveWorkflowOperator
from slipway_stack.ports import pick_free

RESULT: dict[str, Any] = {
    "counts": {"in": 12_000, "scored": 11_999, "rejected": 1, "written": 11_999},
    "outputs": [{"path": "/scores/<b>x</b>/execution=e1", "rows": 11_999}],
    "rejects": {"path": "/rejects/x", "reasons": [{"rows": 1, "reason": "Column 'x' is not a number."}]},
    "seconds": 3.5,
}


DEFINITION = """
id: 1
name: sample
description: A sample.
nodes:
  - {id: cells, type: read, format: csv, path: cells.csv}
  - {id: scored, type: score, input: cells, model: m}
  - {id: out, type: write, input: scored, path: out}
"""


class Inbox:
    """What the server was handed."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """A running SMTP server, which `smtp_default` names."""
    box = Inbox()
    (port,) = pick_free(1)
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    connect(monkeypatch, port)
    yield box
    controller.stop()


def connect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    extra = {"from_email": "slipway@example.org", "disable_ssl": True, "disable_tls": True, "timeout": 5}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))


def notify(pulled: dict[tuple[str, str], Any]) -> Any:
    def pull(*, task_ids: str, key: str = "return_value") -> Any:
        return pulled.get((task_ids, key))

    context: Any = {
        "ti": SimpleNamespace(xcom_pull=pull),
        "dag": SimpleNamespace(dag_id="score_workflow"),
        "run_id": "wf1-e1",
    }
    return NotifyOperator(task_id="notify").run(context)


RESOLVED = {
    ("resolve", "workflow"): "churn",
    ("resolve", "email_on_success"): ["a@example.org", "b@example.org"],
    ("resolve", "email_on_failure"): ["ops@example.org"],
}


def test_success_is_told_in_text_and_html(inbox: Inbox) -> None:
    assert notify({**RESOLVED, ("publish", "return_value"): RESULT})["sent"] == ["a@example.org", "b@example.org"]
    ((to, mail),) = inbox.mails
    assert to == ["a@example.org", "b@example.org"]
    assert mail["Subject"] == "[Slipway] churn scored"
    assert mail["From"] == "slipway@example.org"
    text, html = (part.get_payload(decode=True).decode() for part in mail.get_payload())  # type: ignore[union-attr]
    for body in (text, html):
        assert "12,000" in body
        assert "wf1-e1" in body
        assert "/dags/score_workflow/runs/wf1-e1" in body
    assert "<b>x</b>" not in html, "what comes from data is escaped"
    assert "Column 'x' is not a number." in text


def test_failure_is_told_to_others_with_the_sentence(inbox: Inbox) -> None:
    with pytest.raises(UserError, match=r"The run has failed\. Node 'cells': nothing is there."):
        notify({**RESOLVED, ("score", "error"): "Node 'cells': nothing is there."})
    ((to, mail),) = inbox.mails
    assert to == ["ops@example.org"]
    assert mail["Subject"] == "[Slipway] churn failed"
    assert "Node 'cells': nothing is there." in mail.get_payload()[0].get_payload()  # type: ignore[union-attr,index]


@pytest.mark.parametrize(("workflow", "on_success"), [(99, ""), (1, "nobody")])
def test_a_failure_at_the_very_start_is_told_too(
    inbox: Inbox, home: Path, monkeypatch: pytest.MonkeyPatch, workflow: int, on_success: str
) -> None:
    (home / "one.yaml").write_text("id: 1" if not on_success else DEFINITION)
    monkeypatch.setenv("AIRFLOW__SLIPWAY__WORKFLOWS_DIR", str(home))
    pushed: dict[tuple[str, str], Any] = {}
    context: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({("resolve", key): value}))}
    resolve = ResolveWorkflowOperator(
        task_id="resolve", workflow_id=workflow, mail_on_success=on_success, mail_on_failure="ops@example.org"
    )
    with pytest.raises(UserError) as wrong:
        resolve.run(context)
    with pytest.raises(UserError, match="The run has failed"):
        notify({**pushed, ("resolve", "error"): str(wrong.value)})
    ((to, mail),) = inbox.mails
    assert to == ["ops@example.org"]
    assert mail["Subject"] == f"[Slipway] {'sample' if on_success else 'score_workflow'} failed"


def test_a_run_that_had_nothing_to_do_is_no_failure(inbox: Inbox) -> None:
    assert notify({**RESOLVED, ("resolve", "skipped"): True})["sent"] == []
    assert inbox.mails == []


def test_empty_means_none(inbox: Inbox) -> None:
    assert notify({("resolve", "workflow"): "churn", ("publish", "return_value"): RESULT})["sent"] == []
    assert inbox.mails == []


def test_a_mail_server_that_is_down_fails_nothing(monkeypatch: pytest.MonkeyPatch, inbox: Inbox) -> None:
    connect(monkeypatch, 1)
    result = notify({**RESOLVED, ("publish", "return_value"): RESULT})
    assert result["sent"] == []
    assert result["reason"]
