"""Forms out of params: what each kind becomes, what is refused, and that nothing gets out of its place as markup."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.web.page import forms
from slipway.web.page.effects import effects
from slipway.web.page.forms import Choice
from slipway.web.page.models import Model

PARAMS: dict[str, dict[str, Any]] = {
    "model": {"value": None, "schema": {"type": "string", "minLength": 1, "title": "Model"}},
    "version": {"value": None, "schema": {"type": ["null", "string"], "description_md": "Such as `3`."}},
    "alias": {"value": None, "schema": {"type": ["null", "string"]}},
    "endpoint": {"value": None, "schema": {"type": ["null", "string"]}},
    "auth": {"value": "none", "schema": {"type": "string", "enum": ["none", "token"]}},
    "workers": {"value": 1, "schema": {"type": "integer", "minimum": 1, "maximum": 64}},
    "share": {"value": 0.5, "schema": {"type": "number"}},
    "force": {"value": False, "schema": {"type": "boolean"}},
    "tags": {"value": {}, "schema": {"type": "object"}},
    "free": {"value": "x", "schema": {}},
}  # fmt: skip
GOOD = {"model": "churn", "auth": "token", "workers": "2", "share": "0.25", "tags": '{"a": 1}', "free": "y"}


def test_each_param_becomes_a_field_of_its_kind() -> None:
    made = {field.name: field for field in forms.fields(PARAMS, {"model": "churn"}, fixed=frozenset({"model"}))}
    assert {name: field.kind for name, field in made.items()} == {
        "model": "text", "version": "text", "alias": "text", "endpoint": "text", "auth": "select", "workers": "number",
        "share": "number", "force": "checkbox", "tags": "json", "free": "text",
    }  # fmt: skip
    assert made["model"].fixed
    assert made["model"].value == "churn"
    assert [name for name, field in made.items() if field.required] == ["model", "auth", "workers", "share", "tags"]
    assert made["version"].help == "Such as `3`."
    assert made["workers"].attributes == (("min", "1"), ("max", "64"), ("step", "1"))
    assert [choice.value for choice in made["auth"].choices] == ["none", "token"]


def test_a_text_field_is_chosen_from_what_the_page_knows() -> None:
    choices = {"version": [Choice("", "The newest"), Choice("2", "2 (champion)")]}
    made = {field.name: field for field in forms.fields(PARAMS, {"version": "7"}, choices=choices)}
    assert made["version"].kind == "select"
    assert [choice.value for choice in made["version"].choices] == ["7", "", "2"]


def test_a_form_becomes_a_conf_of_the_right_types() -> None:
    conf, errors = forms.parse(PARAMS, {**GOOD, "force": "true"})
    assert errors == {}
    assert conf == {
        "model": "churn", "version": None, "alias": None, "endpoint": None, "auth": "token", "workers": 2,
        "share": 0.25, "force": True, "tags": {"a": 1}, "free": "y",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("model", "", "This field is needed."),
        ("model", "<script>", "Model name '<script>' is not allowed"),
        ("endpoint", "No Good", "Endpoint name 'No Good' is not allowed"),
        ("alias", "latest", "Alias 'latest' is not allowed"),
        ("auth", "basic", "Give one of none, token."),
        ("workers", "0", "Give a number from 1 to 64."),
        ("workers", "65", "Give a number from 1 to 64."),
        ("workers", "two", "Give a number."),
        ("workers", "", "Give a number."),
        ("share", "1e", "Give a number."),
        ("tags", "{", "Give valid JSON."),
        ("tags", "[1]", "is not of type 'object'"),
        ("free", "x" * 200_000, "Give another value."),
    ],
)
def test_what_is_wrong_is_said_at_its_field(field: str, value: str, says: str) -> None:
    _, errors = forms.parse(PARAMS, {**GOOD, field: value})
    assert set(errors) == {field}
    assert says in errors[field]


def test_version_and_alias_exclude_each_other() -> None:
    _, errors = forms.parse(PARAMS, {**GOOD, "version": "1", "alias": "champion"})
    assert errors == {"alias": "Both version and alias are given: give one of the two."}
    needed = {name: {**PARAMS[name], "schema": {"type": "string"}} for name in ("version", "alias")}
    assert forms.parse(needed, {"version": "1", "alias": "champion"})[1] == {}, "set_alias takes both"


@pytest.mark.parametrize(
    ("dag_id", "conf", "says"),
    [
        ("register_model", {"name": "m"}, "version 1 of 'm'"),
        ("register_model", {"name": "m", "model_uri": "models:/x/1", "alias": "champion"}, "models:/x/1"),
        ("set_alias", {"version": "1", "alias": "champion"}, "Makes version 1 the champion"),
        ("deploy_sagemaker", {"version": "3"}, "Deploys version 3 of 'm' to SageMaker as endpoint 'm'."),
        ("deploy_docker", {"alias": "champion", "endpoint": "e"}, "as endpoint 'e'"),
        ("undeploy_azureml", {}, "MLflow has no record of it"),
        ("build_and_push_image", {}, "Builds the image of the newest version"),
        ("some_other", {}, ""),
    ],
)
def test_what_will_happen_is_said(dag_id: str, conf: dict[str, Any], says: str) -> None:
    assert says in " ".join(effects(dag_id, conf, Model("m")))


@pytest.mark.parametrize(
    ("field", "text"),
    [("share", "nan"), ("share", "inf"), ("share", "1e999"), ("tags", '{"a": NaN}'), ("tags", '{"a": [1e999]}')],
)
def test_numbers_that_json_has_not_are_refused(field: str, text: str) -> None:
    assert list(forms.parse(PARAMS, {**GOOD, field: text})[1]) == [field]
