"""What readers see of an output: all of it or nothing, and never another execution's."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway_spark.commit import Output, execution_directory
from slipway_spark.errors import JobError, WrongInput


def stage(output: Output, *names: str) -> None:
    folder = Path(output.staging)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(name)


def visible(root: Path) -> dict[str, set[str]]:
    """What readers find: directories and files that do not begin with `_` or `.`."""
    return {
        folder.name: {f.name for f in folder.iterdir() if f.name[0] not in "_."}
        for folder in root.iterdir()
        if folder.name[0] not in "_."
    }


def test_an_output_appears_whole_and_a_second_try_replaces_it(tmp_path: Path) -> None:
    other = Output(str(tmp_path), "other", "t0")
    other.prepare()
    stage(other, "theirs")
    other.publish({})
    first = Output(str(tmp_path), "mine", "t1")
    first.prepare()
    stage(first, "one", "two")
    assert visible(tmp_path) == {"execution=other": {"theirs"}}
    first.publish({"rows": 2})
    second = Output(str(tmp_path), "mine", "t2")
    second.prepare()
    stage(second, "three")
    assert visible(tmp_path)["execution=mine"] == {"one", "two"}
    second.publish({})
    assert visible(tmp_path) == {"execution=other": {"theirs"}, "execution=mine": {"three"}}
    assert not (tmp_path / "_slipway").exists(), "nothing is left behind"


def test_a_driver_that_lives_on_after_its_successor_publishes_nothing(tmp_path: Path) -> None:
    first = Output(str(tmp_path), "mine", "t1")
    first.prepare()
    stage(first, "old")
    second = Output(str(tmp_path), "mine", "t2")
    second.prepare()
    stage(second, "new")
    with pytest.raises(JobError, match="publishes nothing"):
        first.publish({})
    second.publish({})
    assert visible(tmp_path) == {"execution=mine": {"new"}}


def test_modes(tmp_path: Path) -> None:
    for execution, mode in (("a", "append"), ("b", "append"), ("c", "overwrite")):
        output = Output(str(tmp_path), execution, "t", mode)
        output.prepare()
        stage(output, execution)
        output.publish({})
    assert visible(tmp_path) == {"execution=c": {"c"}}
    with pytest.raises(WrongInput, match="another execution"):
        Output(str(tmp_path), "d", "t", "error").prepare()
    Output(str(tmp_path), "c", "t", "error").prepare()


@pytest.mark.parametrize("name", ["100%25", "a#b?c", "a b"])
@pytest.mark.parametrize("before", ["", "file:", "file://"])
def test_a_path_means_what_it_means_to_spark(tmp_path: Path, name: str, before: str) -> None:
    output = Output(f"{before}{tmp_path}/{name}", "mine", "t")
    folder = tmp_path / name / "_slipway/mine/t"  # where Spark, which reads no `%25`, writes then
    folder.mkdir(parents=True)
    (folder / "one").touch()
    output.publish({})
    assert visible(tmp_path / name) == {"execution=mine": {"one"}}


def test_ids_with_odd_characters_keep_apart() -> None:
    names = {execution_directory(e) for e in ("a:b", "a/b", "a_b", "../x", "scheduled__2026-11-01T00:00:00+00:00")}
    assert len(names) == 5
    assert all("/" not in name and ":" not in name for name in names)
