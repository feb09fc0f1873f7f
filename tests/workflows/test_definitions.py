"""What a definition's file may say, and the one sentence about each that says something else."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from slipway.errors import NotFound, UserError
from slipway.workflows import catalog, graph
from slipway.workflows.definition import schema

ROOT = Path(__file__).parents[2]

GOOD = """
id: 7
name: sample
description: A sample.
parameters: [{name: day, type: date, default: 2026-11-01}]
nodes:
  - {id: cells, type: read, format: csv, path: cells.csv}
  - {id: chosen, type: sql, inputs: [cells], sql: "SELECT *, ':no' AS a, 1::int AS b FROM cells WHERE day = :day"}
  - {id: scored, type: score, input: chosen, model: m}
  - {id: out, type: write, input: scored, path: out}
"""

# What is replaced in GOOD, by what, and what the sentence says of it.
BAD = {
    "not YAML": ("id: 7", "id: [7", "not valid YAML"),
    "a list": (GOOD, "- 1\n- 2\n", "not a mapping"),
    "empty": (GOOD, "", "not a mapping"),
    "a key twice": ("name: sample", "name: sample\nname: other", "is there twice"),
    "an alias": ("id: 7", "x: &a [1]\ny: *a\nid: 7", "aliases are not allowed"),
    "a Python object": ("id: 7", "id: !!python/object/apply:os.system [id]", "not valid YAML"),
    "not UTF-8": ("A sample", "A \x00sample", "not valid YAML"),
    "unknown field": ("id: 7", "id: 7\nowner: me", "owner: Extra inputs"),
    "unknown field of a node": ("path: cells.csv", "path: cells.csv, pth: x", "nodes.0.pth"),
    "unknown node type": ("type: sql", "type: python", "python"),
    "unknown format": ("format: csv", "format: excel", "nodes.0.format"),
    "no id": ("id: 7\n", "", "id: Field required"),
    "an id that is text": ("id: 7", 'id: "7"', "id: Input should be a valid integer"),
    "id 0": ("id: 7", "id: 0", "greater than or equal to 1"),
    "a bad name": ("name: sample", "name: Sample/1", "should match pattern"),
    "a node twice": ("id: chosen", "id: cells", "there twice"),
    "a dangling input": ("inputs: [cells]", "inputs: [nothing]", "takes 'nothing', which is no node"),
    "a cycle": ("inputs: [cells]", "inputs: [cells, scored]", "form a cycle"),
    "a node that takes itself": ("inputs: [cells]", "inputs: [cells, chosen]", "form a cycle"),
    "an input that writes": ("input: chosen", "input: out", "which writes"),
    "no write": ("  - {id: out, type: write, input: scored, path: out}\n", "", "No node writes"),
    "no score": ("type: score, input: chosen, model: m", "type: sql, inputs: [chosen], sql: SELECT 1", "No node scores"),  # noqa: E501  # one case a line
    "a node nobody takes": ("input: scored, path: out", "input: cells, path: out", "Nothing takes"),
    "an undeclared parameter": ("parameters: [{name: day, type: date, default: 2026-11-01}]\n", "", "not declared"),
    "an undeclared placeholder": ("path: cells.csv", "path: '${file}'", "'file', which is not declared"),
    "an unused parameter": (":day", "'2026-11-01'", "declared and not used"),
    "a mistyped default": ("default: 2026-11-01", "default: tomorrow", "give a date"),
    "an unknown type": ("type: date", "type: day", "parameters.0.type"),
    "required with a default": ("type: date", "type: date, required: true", "give one of the two"),
    "a placeholder in SQL": (":day", "'${day}'", "never read as SQL"),
    "SQL that is no query": ('"SELECT *', '"DROP TABLE x; SELECT *', "begin it with SELECT"),
    "version and alias": ("model: m", "model: m, version: '1', alias: a", "give one of the two"),
    "an output twice": ("model: m", "model: m, outputs: [a, a]", "same name"),
    "no sql": (', sql: "SELECT *, \':no\' AS a, 1::int AS b FROM cells WHERE day = :day"', "",
               "nodes.1.sql: Field required"),
    "too large": ("id: 7", "id: 7 #" + "x" * 2**20, "larger than 1 MiB"),
    "no path": (", path: cells.csv", "", "needs a path"),
    "jdbc without a table": ("format: csv, path: cells.csv", "format: jdbc, options: {url: 'jdbc:x'}", "dbtable"),
    "a password": ("format: csv, path: cells.csv",
                   "format: jdbc, options: {url: 'jdbc:x', dbtable: t, password: p}", "does not belong"),
    "an option of ours": ("path: cells.csv", "path: cells.csv, options: {mode: FAILFAST}", "set by Slipway"),
    "a cron that is none": ("nodes:", "schedule: {cron: every day, start: 2026-11-01}\nnodes:", "Cron expression"),
    "a schedule of an unknown parameter": (
        "nodes:", "schedule: {cron: 0 0 * * *, start: 2026-11-01, interval: {x: start}}\nnodes:", "not declared"),
    "a share over 1": ("nodes:", "rejects: {max_share: 5}\nnodes:", "less than or equal to 1"),
    "two nodes for one path": ("path: out}", "path: out}\n  - {id: b, type: write, input: scored, path: out}",
                               "the same path"),
    "two spellings of one path": ("path: out}", "path: out}\n  - {id: b, type: write, input: scored, path: x/../out/}",
                                  "the same path"),
    "rejects in an output": ("nodes:", "rejects: {path: out/}\nnodes:", "Node 'out' and rejects write to the same"),
    "rejects below an output": ("nodes:", "rejects: {path: out/bad}\nnodes:", "one below the other"),
    "an output in the default place of rejects": ("path: out}", "path: rejects/sample}", "the same path"),
    "deep nesting": ("id: 7", "x: " + "[" * 3000 + "]" * 3000 + "\nid: 7", "x.yaml is wrong"),
}  # fmt: skip


def test_a_good_definition_is_taken_whole() -> None:
    definition = catalog.parse(GOOD.encode(), "x.yaml")
    assert [node.id for node in definition.ordered] == ["cells", "chosen", "scored", "out"]
    assert definition.ordered[1].markers == ["day"]  # type: ignore[union-attr]
    assert definition.models == {"m"}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_definition_is_refused_in_one_sentence(kind: str) -> None:
    old, new, said = BAD[kind]
    assert old in GOOD
    with pytest.raises(UserError) as refused:
        catalog.parse(GOOD.replace(old, new).encode(), "x.yaml")
    assert said in str(refused.value)
    assert "x.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_broken_file_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD.replace("id: 7", "id: 8"))
    (tmp_path / "c.yaml").write_text("nothing")
    (tmp_path / "d.yaml").write_text(GOOD.replace("name: sample", "name: other"))
    (tmp_path / "e.yaml").write_text(f"{GOOD}#{'x' * 2**20}")
    found = catalog.load(tmp_path)
    assert "larger than 1 MiB" in str(found.broken["e.yaml"])
    assert list(found.definitions) == [7]
    assert sorted(found.broken) == ["b.yaml", "c.yaml", "d.yaml", "e.yaml"]
    with pytest.raises(NotFound, match=r"9: the known ones are 7 \(sample\); b.yaml, c.yaml, d.yaml, e.yaml"):
        found.find(9)


def test_the_samples_are_good_and_their_pictures_are_in_the_docs() -> None:
    found = catalog.load(ROOT / "include" / "workflows")
    assert found.broken == {}
    docs = (ROOT / "docs" / "workflows.md").read_text()
    for definition, _ in found.definitions.values():
        assert graph.mermaid(definition) in docs, f"docs/workflows.md has no picture of {definition.name}"
        picture = ET.fromstring(graph.svg(definition))
        assert len(picture.findall(".//{http://www.w3.org/2000/svg}rect")) == len(definition.nodes)


def test_a_picture_shows_text_and_runs_none() -> None:
    hostile = GOOD.replace("path: out", "path: '\"><script>alert(1)</script>'")
    assert "<script" not in graph.svg(catalog.parse(hostile.encode(), "x.yaml"))


def test_the_schema_for_editors_is_the_one_that_is_checked() -> None:
    committed = (ROOT / "include" / "workflows" / "workflow.schema.json").read_text()
    import json

    assert json.loads(committed) == json.loads(json.dumps(schema())), "run: python -m slipway.workflows schema"
    assert yaml.safe_load(GOOD).keys() <= schema()["properties"].keys()
