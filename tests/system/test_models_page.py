"""The Models page through a real Airflow, in Chromium: what users do, viewers may not, and strangers cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect, sync_playwright

from tests.stack.running import RunningStack
from tests.system.browser import Visitor, launch, passwords, visit
from tests.system.steps import constant_bundle, deploy, register, score, write_bundle
from tests.system.test_score_workflow import until

pytestmark = pytest.mark.requires("chromium")
MIB = 1024**2
SCRIPT = "<script>window.top.pwned = 1</script><img src=x onerror=window.top.pwned=2>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def deployed(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that is imported, registered and deployed, made by REST."""
    name = f"shown-{uuid.uuid4().hex[:6]}"
    register(stack, constant_bundle(tmp_path_factory.mktemp("bundle") / "b.zip", "shown"), name, alias="champion")
    deploy(stack, name)
    return name


def api(stack: RunningStack, user: str, **headers: str) -> httpx.Client:
    """A client with a user's login cookie, as a browser would have it."""
    login = httpx.post(
        f"{stack.airflow_url}/auth/token", json={"username": user, "password": passwords(stack)[user]}
    ).raise_for_status()
    cookies = {"_token": login.json()["access_token"]}
    return httpx.Client(base_url=f"{stack.airflow_url}/slipway", cookies=cookies, headers=headers, timeout=60)


def token_of(client: httpx.Client) -> str:
    """The token that a page carries for its changes."""
    found = re.search(r'X-CSRF-Token": "([0-9a-f]+)"', client.get("/").text)
    assert found
    return found[1]


def test_a_model_goes_all_its_way_by_clicks(browser: Browser, stack: RunningStack, tmp_path: Path) -> None:
    name = f"clicked-{uuid.uuid4().hex[:6]}"
    bundle = Path(constant_bundle(tmp_path / "bundle.zip", "yes").removeprefix("file://"))
    with visit(browser, stack) as ann:
        # Import, from Airflow's own navigation.
        ann.page.get_by_role("link", name="Models").first.click()
        ann.frame.get_by_role("link", name="Import", exact=True).click()
        ann.frame.locator("#file").set_input_files(bundle)
        ann.frame.get_by_label("Name").fill(name)
        ann.frame.locator("button[type=submit]").click()
        ann.follow("import_bundle")
        # Register, from where the import ends.
        ann.frame.get_by_role("link", name="Register it").click()
        ann.frame.locator("dialog[open] form").wait_for()
        assert enabled(ann.open(f"/models/{name}")) == {"register_model"}
        ann.choose("register_model")
        ann.frame.get_by_label("Alias").fill("champion")
        expect(ann.frame.locator("#form-check")).to_contain_text("Sets alias 'champion'")
        ann.submit("register_model")
        # Deploy; a wrong name is said while it is typed.
        frame = ann.open(f"/models/{name}")
        ann.choose("deploy_mlflow")
        ann.frame.locator("#f-endpoint").fill("No Good")
        expect(ann.frame.locator("#f-endpoint-error")).to_contain_text("Endpoint name 'No Good' is not allowed")
        ann.frame.locator("#f-endpoint").fill("")
        expect(ann.frame.locator("#form-check")).to_contain_text(f"as endpoint '{name}'")
        ann.submit("deploy_mlflow")
        # Try it, and paste the sample.
        ann.frame.get_by_role("link", name="Open the endpoint").click()
        expect(ann.frame.locator("#health")).to_contain_text("Healthy")
        ann.frame.get_by_role("button", name="Send").click()
        expect(ann.frame.locator("#prediction")).to_contain_text('"yes"')
        ann.frame.get_by_role("button", name="Copy the curl sample").click()
        # The browser writes its clipboard a moment after the click.
        curl = ann.page.wait_for_function("() => navigator.clipboard.readText()").json_value()
        answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
        assert json.loads(answer)["predictions"] == ["yes", "yes"]
        ann.frame.get_by_role("button", name="Send").click()
        expect(ann.frame.locator("[data-figure=rate]")).not_to_have_text("–")
        # Register again, make that the champion, deploy it.
        ann.open(f"/models/{name}")
        ann.choose("re_register")
        ann.submit("register_model")
        frame = ann.open(f"/models/{name}")
        frame.locator("tr", has_text="Version 2").get_by_role("button", name="Make champion").click()
        expect(frame.locator("#form-check")).to_contain_text("It is version 1 now.")
        ann.submit("set_alias")
        frame = ann.open(f"/models/{name}")
        expect(frame.locator("tr", has_text="Version 2").locator(".badge.alias")).to_have_text("champion")
        ann.choose("deploy_mlflow")
        expect(frame.locator("#form-check")).to_contain_text("Version 1 serves there now")
        ann.submit("deploy_mlflow")
        frame = ann.open(f"/models/{name}")
        assert {"undeploy_mlflow", "samples"} <= enabled(frame)
        # And off again.
        ann.open(f"/models/{name}")
        ann.choose("undeploy_mlflow")
        ann.submit("undeploy_mlflow")
        after = enabled(ann.open(f"/models/{name}"))
        assert "deploy_mlflow" in after
        assert not {"undeploy_mlflow", "samples"} & after
        expect(ann.open(f"/models?q={name}").locator("tbody")).to_contain_text("Registered")
        assert f"/plugin/models/slipway/models?q={name}" in ann.page.url, "the address can be shared"
    assert not list((stack.stack.bundles / ".uploads").rglob("*.zip")), "what was imported is not kept twice"


def enabled(frame: object) -> set[str]:
    """What the actions menu lets one choose."""
    menu = frame.locator(".menu").first  # type: ignore[attr-defined]
    menu.locator("summary").click()
    menu.locator("[data-action]").first.wait_for()
    found = menu.locator("button[data-action]:not([disabled]), a[data-action]")
    actions = {str(found.nth(i).get_attribute("data-action")) for i in range(found.count())}
    menu.locator("summary").click()
    return actions


def test_a_failure_says_why_and_can_be_tried_again(browser: Browser, stack: RunningStack, tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        raise ValueError('no luck')\n"
    bundle = Path(write_bundle(tmp_path / f"bad-{uuid.uuid4().hex[:6]}.zip", code).removeprefix("file://"))
    with visit(browser, stack) as ann:
        frame = ann.open("/import")
        frame.locator("#file").set_input_files(bundle)
        frame.locator("button[type=submit]").click()
        frame = ann.follow("import_bundle", "failed")
        expect(frame.locator("#failure")).to_contain_text("no luck")
        expect(frame.locator(".steps .failed .name")).to_have_text("probe")
        frame.get_by_role("button", name="Retry").click()
        ann.wait_for("-2$")
        frame = ann.follow("import_bundle", "failed")
        expect(frame.locator("#failure")).to_contain_text("no luck")
        # What is no zip is refused before anything runs.
        (tmp_path / "notes.zip").write_text("not a zip")
        frame = ann.open("/import")
        frame.locator("#file").set_input_files(tmp_path / "notes.zip")
        frame.locator("button[type=submit]").click()
        expect(frame.locator("#import-error")).to_have_text(
            "'notes.zip' is not a zip archive: zip the bundle's folder first."
        )


def test_who_may_look_may_not_touch(browser: Browser, stack: RunningStack, deployed: str) -> None:
    with visit(browser, stack, "vic") as vic:
        frame = vic.open(f"/models/{deployed}")
        assert enabled(frame) == {"samples"}
        expect(frame.get_by_role("button", name="Make challenger")).to_be_disabled()
        frame = vic.open(f"/models/{deployed}/endpoints/mlflow/{deployed}")
        expect(frame.locator("#health")).to_contain_text("Healthy")
        expect(frame.get_by_role("button", name="Send")).to_be_disabled()
        expect(frame.locator("[data-sample=curl]")).to_contain_text("curl")
        expect(vic.open("/import").get_by_role("button", name="Import")).to_be_disabled()
    with api(stack, "vic") as client:
        changes = {"X-CSRF-Token": token_of(client)}
        here = f"/models/{deployed}"
        for method, path in (
            ("POST", f"{here}/actions/deploy_mlflow"), ("POST", f"{here}/actions/set_alias"), ("PUT", "/uploads"),
            ("POST", "/import"), ("POST", f"{here}/endpoints/mlflow/{deployed}/try"), ("POST", "/workflows/1/run"),
            ("POST", "/retry/deploy_mlflow/x"),
        ):  # fmt: skip
            answer = client.request(method, path, headers=changes, data={"model": deployed})
            assert answer.status_code == 403, path
        api_v1 = f"{stack.airflow_url}/api/v1/workflow"
        assert client.get(api_v1).status_code == 200
        assert client.post(f"{api_v1}/execute", json={"workflowId": 1}).status_code == 403
        assert client.delete(f"{api_v1}/execution/of-somebody-else").status_code == 403
    with visit(browser, stack, "uma") as uma:  # Airflow's role "user" may run DAGs
        assert "deploy_mlflow" in enabled(uma.open(f"/models/{deployed}"))


def test_a_change_must_come_from_our_own_page(stack: RunningStack, deployed: str) -> None:
    with api(stack, "admin") as client:
        path, form = f"/models/{deployed}/actions/undeploy_mlflow", {"model": deployed, "endpoint": deployed}
        token = token_of(client)
        with api(stack, "uma") as uma:
            other_token = token_of(uma)
        for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": other_token},
                        {"X-CSRF-Token": token, "Origin": "http://evil.example"},
                        {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"}):  # fmt: skip
            assert client.post(path, headers=headers, data=form).status_code == 403, headers
        shown = client.get("/")
        policy = shown.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy
        assert shown.headers["Cache-Control"] == "no-store"
    nobody = httpx.get(f"{stack.airflow_url}/slipway/", headers={"Sec-Fetch-Dest": "document"})
    assert nobody.status_code == 302
    assert "/auth/login" in nobody.headers["Location"]
    assert httpx.get(f"{stack.airflow_url}/slipway/models/{deployed}").status_code == 401
    assert score(f"{stack.model_host_url}/endpoints/{deployed}"), "it is still there"


def test_two_at_once_start_an_action_once(browser: Browser, stack: RunningStack, deployed: str) -> None:
    with visit(browser, stack) as ann, visit(browser, stack, "uma") as uma:
        for visitor in (ann, uma):
            visitor.open(f"/models/{deployed}")
            visitor.choose("deploy_mlflow")
        for visitor in (ann, uma):
            visitor.frame.locator("dialog button[type=submit]").click(no_wait_after=True)
        ann.follow("deploy_mlflow")
        expect(uma.frame.locator("#notices")).to_contain_text("wait for its end")
    runs = stack.airflow.runs("deploy_mlflow", limit=100)
    assert len([run for run in runs if run.run_id.startswith(f"{deployed}-")]) == 1


def test_script_in_every_field_stays_text(browser: Browser, stack: RunningStack, deployed: str, tmp_path: Path) -> None:
    mlflow = f"{stack.mlflow_url}/api/2.0/mlflow"
    foreign = f"{SCRIPT} {uuid.uuid4().hex[:6]}".replace("/", "")
    httpx.post(f"{mlflow}/registered-models/create", json={"name": foreign, "description": SCRIPT}).raise_for_status()
    httpx.patch(f"{mlflow}/registered-models/update", json={"name": deployed, "description": SCRIPT}).raise_for_status()
    httpx.post(f"{mlflow}/registered-models/alias", json={"name": deployed, "alias": "x\"'><b>", "version": "1"})
    tag = {"name": deployed, "version": "1", "key": "slipway.deployment.mlflow.damaged", "value": SCRIPT}
    httpx.post(f"{mlflow}/model-versions/set-tag", json=tag).raise_for_status()
    bundle = tmp_path / "a'\"><img src=x onerror=window.top.pwned=3>.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr(SCRIPT.replace("/", ""), "x")
    with visit(browser, stack) as ann:
        expect(ann.open("/").locator("main")).to_contain_text("<script>")
        expect(ann.open(f"/models/{deployed}").locator("h1 + p")).to_contain_text("<script>")
        ann.open(f"/models?q={SCRIPT}")
        frame = ann.open("/import")
        frame.locator("#file").set_input_files(bundle)
        frame.get_by_label("Description").fill(SCRIPT)
        frame.locator("button[type=submit]").click()
        frame = ann.follow("import_bundle", "failed")
        frame.get_by_text("What it was started with").click()
        expect(frame.locator(".conf")).to_contain_text("<script>")
        ann.open(f"/models/{deployed}")
        ann.choose("deploy_mlflow")
        frame.locator("#f-endpoint").fill(SCRIPT)
        expect(frame.locator("#f-endpoint-error")).to_contain_text("is not allowed")
        ann.open(f"/models/{deployed}/endpoints/mlflow/{deployed}")
        frame.locator("#input").fill(f'{{"{SCRIPT.replace(chr(34), "")}": 1}}')
        frame.get_by_role("button", name="Send").click()
        frame.locator("#answer .alert").wait_for()
        for path in (f"/models/{SCRIPT}", f"/runs/deploy_mlflow/{SCRIPT}", f"/workflows/{SCRIPT}"):
            ann.open(path.replace("</script>", ""))
        assert ann.page.evaluate("window.pwned") is None
    httpx.post(f"{mlflow}/registered-models/update", json={"name": deployed, "description": ""})
    httpx.request("DELETE", f"{mlflow}/model-versions/delete-tag", json={k: tag[k] for k in ("name", "version", "key")})
    httpx.request("DELETE", f"{mlflow}/registered-models/delete", json={"name": foreign})


def test_a_paused_dag_takes_no_runs(stack: RunningStack, deployed: str) -> None:
    with api(stack, "admin") as client:
        changes = {"X-CSRF-Token": token_of(client)}
        failed = stack.wait(stack.trigger("deploy_mlflow", {"model": deployed, "version": "99"}))
        dags = ("deploy_mlflow", "set_alias", "score_workflow", "import_bundle")
        here = f"/models/{deployed}/actions"
        starts = (f"{here}/deploy_mlflow", f"{here}/set_alias", f"/retry/deploy_mlflow/{failed.run_id}",
                  "/workflows/1/run", "/import")  # fmt: skip
        form = {
            "model": deployed,
            "version": "1",
            "alias": "champion",
            "bundle_uri": "file:///none.zip",
            "auth": "none",
        }
        for dag_id in dags:
            stack.airflow.request("PATCH", f"/dags/{dag_id}", json={"is_paused": True})
        try:
            answers = [client.post(path, headers={**changes, "HX-Request": "true"}, data=form) for path in starts]
            assert [(a.status_code, "is paused in Airflow" in a.text) for a in answers] == [(409, True)] * len(starts)
            assert "is paused in Airflow" in client.get("/workflows/1").text
            assert "is paused in Airflow" in client.get("/import").text
        finally:
            for dag_id in dags:
                stack.airflow.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        for dag_id in dags:
            waiting = stack.airflow.request("GET", f"/dags/{dag_id}/dagRuns", params={"state": "queued"})
            assert waiting["total_entries"] == 0


def test_a_scheduled_run_that_failed_is_tried_again_for_its_own_interval(stack: RunningStack) -> None:
    dag_id = "scheduled_scoring__breast_cancer_daily"

    def runs(kind: str = "") -> list[dict[str, Any]]:
        found = stack.airflow.request("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]
        return [run for run in found if run["run_type"] == (kind or run["run_type"])]

    def failed() -> bool:
        """Mark what goes on as failed; it is when its last step, which sends the mail, is over."""
        going = [run for run in runs() if run["state"] != "failed"]
        for run in going:
            path = f"/dags/{dag_id}/dagRuns/{quote(run['dag_run_id'], safe='')}"
            stack.airflow.request("PATCH", path, json={"state": "failed"})
        return not going

    # Switched on, the schedule makes its run for yesterday.
    stack.airflow.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
    try:
        until(lambda: bool(runs("scheduled")), 60)
        until(failed, 120)
        [run] = runs("scheduled")
        with api(stack, "admin") as client:
            path = f"{dag_id}/{quote(run['dag_run_id'], safe='')}"
            assert "Retry" in client.get(f"/runs/{path}").text
            answer = client.post(f"/retry/{path}", headers={"X-CSRF-Token": token_of(client)})
            assert answer.headers["HX-Redirect"] == f"/slipway/runs/{path}", answer.text
        [again] = runs("scheduled")
        assert again["state"] != "failed", "it goes on"
        same = ("dag_run_id", "data_interval_start", "data_interval_end")
        assert [again[key] for key in same] == [run[key] for key in same]
    finally:
        stack.airflow.request("PATCH", f"/dags/{dag_id}", json={"is_paused": True})
        failed()


def test_what_is_not_there_is_not_found(stack: RunningStack) -> None:
    with api(stack, "admin") as client:
        for path in ("/models/nothing", "/workflows/999", "/runs/deploy_mlflow/nothing"):
            assert client.get(path).status_code == 404, path


def test_pages_are_fit_for_all(browser: Browser, stack: RunningStack, deployed: str) -> None:
    """Readable by assistive technology in both themes, on a narrow window, and by keyboard alone."""
    run = next(r for r in stack.airflow.runs("deploy_mlflow") if r.state == "success")
    paths = ["/", f"/models/{deployed}", f"/models/{deployed}/endpoints/mlflow/{deployed}", "/import", "/workflows",
             "/workflows/1", f"/runs/deploy_mlflow/{run.run_id}", "/models?q=nothing-is-named-so"]  # fmt: skip
    axe = Axe()
    for dark in (False, True):
        with visit(browser, stack, dark=dark) as ann:
            for path in paths:
                frame = ann.open(path)
                frame.locator("body:not(:has(.htmx-request))").wait_for()
                assert frame.locator("html.dark").count() == int(dark)
                found = axe.run(ann.page, context={"include": [["iframe", "body"]]}).response["violations"]
                serious = [v for v in found if v["impact"] in {"serious", "critical"}]
                assert not serious, f"{path}: {[(v['id'], [n['html'] for n in v['nodes']][:3]) for v in serious]}"
    with visit(browser, stack, width=400) as ann:
        for path in paths:
            body = ann.open(path).locator("html")
            assert body.evaluate("e => e.scrollWidth <= e.clientWidth"), path
    with visit(browser, stack) as ann:
        _by_keyboard(ann, deployed)


def _by_keyboard(ann: Visitor, model: str) -> None:
    frame = ann.open(f"/models/{model}")
    frame.locator(".menu summary").focus()
    ann.page.keyboard.press("Enter")
    frame.locator("[data-action=deploy_mlflow]").wait_for()
    for _ in range(6):
        ann.page.keyboard.press("ArrowDown")
        if frame.locator("[data-action=deploy_mlflow]:focus").count():
            break
    ann.page.keyboard.press("Enter")
    frame.locator("dialog[open] form").wait_for()
    expect(frame.locator("dialog :focus")).to_have_count(1)
    ann.page.keyboard.press("Escape")
    expect(frame.locator("dialog[open]")).to_have_count(0)


def test_with_mlflow_hanging_the_rest_is_there(stack: RunningStack, deployed: str) -> None:
    group = json.loads((stack.stack.run / "mlflow.group").read_text())["group"]
    with api(stack, "admin") as client:
        client.get("/")
        os.killpg(group, signal.SIGSTOP)
        try:
            listed = client.get("/models")
            assert listed.status_code == 200
            assert "MLflow has not answered" in listed.text or "does not answer" in listed.text
            assert deployed in listed.text, "the bundle store's part is there"
            shown = client.get(f"/models/{deployed}")
            assert shown.status_code == 200
            assert "answer" in shown.text
            began = time.monotonic()
            assert client.get("/workflows").status_code == client.get("/import").status_code == 200
            assert time.monotonic() - began < 20, "they wait for MLflow as well"
        finally:
            os.killpg(group, signal.SIGCONT)
        assert "Deployed" in client.get(f"/models?q={deployed}").text


def test_an_upload_leaves_the_servers_memory_as_it_was(stack: RunningStack) -> None:
    group = json.loads((stack.stack.run / "airflow-api-server.group").read_text())["group"]
    server = psutil.Process(group)

    def memory() -> int:
        return sum(p.memory_info().rss for p in (server, *server.children(recursive=True)))

    peak = [0]

    def chunks(count: int) -> Iterator[bytes]:
        yield b"PK\x03\x04"
        for number in range(count):
            if number % 16 == 0:
                peak[0] = max(peak[0], memory())
            yield bytes(MIB)

    with api(stack, "admin") as client:
        headers = {"X-CSRF-Token": token_of(client), "X-Filename": "large.zip"}
        client.put("/uploads", headers=headers, content=chunks(32)).raise_for_status()
        before, peak[0] = memory(), 0
        answer = client.put("/uploads", headers=headers, content=chunks(2048)).raise_for_status().json()
    assert answer["bytes"] == 2048 * MIB + 4
    assert peak[0] - before < 48 * MIB
    for file in (stack.stack.bundles / ".uploads").rglob("large.zip"):
        file.unlink()


def test_a_workflow_is_shown_and_its_form_is_checked(browser: Browser, stack: RunningStack) -> None:
    with visit(browser, stack) as ann:
        frame = ann.open("/workflows")
        frame.get_by_role("link", name="breast-cancer", exact=True).first.click()
        frame.locator(".graph svg").wait_for()
        frame.get_by_label("Mail on failure").fill("nobody")
        frame.get_by_role("button", name="Run").click()
        expect(frame.locator("#f-emailOnFailure-error")).to_contain_text("which is no address")
        frame.get_by_label("Mail on failure").fill("")
        frame.get_by_label("input", exact=True).fill("data/nothing.csv")
        frame.get_by_role("button", name="Run").click()
        ann.follow("score_workflow", "failed")
        frame = ann.open("/workflows/1")
        expect(frame.locator("#executions")).to_contain_text("failed")
