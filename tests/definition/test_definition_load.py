"""homeostat.yaml is read, or every mistake in it is told at once."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.duration import Duration
from homeostat.core.errors import BadDefinition, BadInput
from homeostat.definition import Mistake, Project, check, definition_digest, load, schema
from homeostat.definition.document import parse

Make = Callable[[str], Path]
SECTIONS = ["data", "training", "gates", "rollout", "monitoring", "retraining", "serving"]


def mistakes(root: Path) -> list[Mistake]:
    with pytest.raises(BadDefinition) as caught:
        load(root)
    return caught.value.mistakes  # type: ignore[return-value]


def test_a_right_definition_becomes_a_frozen_project(project: Make, right: str) -> None:
    loaded = load(project(right))
    assert isinstance(loaded, Project)
    assert loaded.data.label.matures_after == Duration.parse("7d")
    assert loaded.rollout.steps == (10, 50, 100)
    assert loaded.retraining.on == ("quality",)
    with pytest.raises(AttributeError):
        loaded.name = "other"  # type: ignore[misc]


def test_a_right_definition_has_neither_mistakes_nor_warnings(project: Make, right: str) -> None:
    report = check(project(right))
    assert report.mistakes == []
    assert report.warnings == []


def test_a_folder_without_a_definition_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="homeostat init"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("name: a\n\tdata: 1\n", 2, "spaces"),
        ("name: a\ndata: {source: b\ntraining:\n", 3, "not valid YAML"),
        ("name: 'a\n", 2, "quotation"),
        ("name: a: b\n", 1, "quote"),
        ("name: a\n---\nname: b\n", 2, "one definition"),
        ("a: &x [*x]\n", 1, "alias"),
        ("name: *nobody\n", 1, "anchor"),
        ("- a\n- b\n", 1, "a section"),
        ("just words\n", 1, "a section"),
        ("name: !!python/object:os.system x\n", 1, "tag"),
    ],
)
def test_what_is_not_yaml_is_told_with_its_line_and_what_to_do(
    project: Make, text: str, line: int, says: str
) -> None:
    found = mistakes(project(text))
    assert found[0].at == line
    assert says in " ".join(m.line() for m in found)


def test_a_file_that_is_not_text_is_told(project: Make, right: str) -> None:
    root = project(right)
    (root / "homeostat.yaml").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(BadInput, match="UTF-8"):
        load(root)


def test_every_mistake_is_told_at_once_with_its_path_and_line(project: Make, right: str) -> None:
    text = (
        right.replace("name: fraud-detector", "name: Fraud Detector")
        .replace("key:", "kay:")
        .replace("matures_after: 7d", "matures_after: 7")
        .replace("auc: {min: 0.8}", "acuracy: {min: 0.8}")
        .replace("[10, 50, 100]", "[10, 50, 20]")
        .replace("metric: auc, min: 0.75", "metric: auc, min: 75")
    )
    found = {(m.path, m.at) for m in mistakes(project(text))}
    assert found == {
        ("$.name", 1),
        ("$.data.key", 2),
        ("$.data.kay", 5),
        ("$.data.label.matures_after", 6),
        ("$.gates.acuracy", 12),
        ("$.rollout.steps[2]", 14),
        ("$.monitoring.quality.min", 17),
    }


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        ("transform:", "transfrom:", "$.data.transfrom", "did you mean `transform`?"),
        ("metric: auc", "metric: acu", "$.monitoring.quality.metric", "did you mean `auc`?"),
        ("[quality]", "[qualty]", "$.retraining.on[0]", "did you mean `quality`?"),
        ("fraud:fit", "fraud.fit", "$.training.fit", "did you mean `fraud:fit`?"),
        ("gap: 7d", "gap: 7", "$.training.split.gap", "give it a unit"),
        ("gap: 7d", "gap: 7 days", "$.training.split.gap", "such as 10m"),
        ("gap: 7d", "gap: 99999999999w", "$", "duration that can be used"),
        ("max_duration: 30d", "max_duration:", "$.rollout.max_duration", "found nothing"),
        ("[10, 50, 100]", "100", "$.rollout.steps", "write a list: `[100]`"),
        ("[10, 50, 100]", "[]", "$.rollout.steps", "at least one"),
        ("[10, 50, 100]", "[0, 100]", "$.rollout.steps[0]", "more than 0"),
        ("[10, 50, 100]", "[true, 100]", "$.rollout.steps[0]", "found true"),
        ("min: 0.8", 'min: "0.8"', "$.gates.auc.min", "without quotes"),
        ("min: 0.8", "min: .nan", "$.gates.auc.min", "not a finite number"),
        ("source: data/", "source: 5 #", "$.data.source", 'quote it: "5"'),
        ("gates:", "gates: []\nother:", "$.gates", "a section"),
    ],
)
def test_a_mistake_says_what_to_do(
    project: Make, right: str, old: str, new: str, path: str, says: str
) -> None:
    found = mistakes(project(right.replace(old, new, 1)))
    assert any(m.path == path and says in m.line() for m in found), [m.line() for m in found]


def test_a_key_given_twice_is_a_mistake_that_names_both_lines(project: Make, right: str) -> None:
    (found,) = mistakes(project(right + "name: other\n"))
    assert found.at == 19
    assert "first on line 1" in found.line()


def test_on_is_a_word_and_exponents_are_numbers() -> None:
    value = parse("on: off\nlr: 1e-3\nday: 2026-01-01\nn: 010\nno: null\n").value
    assert value == {"on": "off", "lr": 1e-3, "day": "2026-01-01", "n": 10, "no": None}


def test_the_digest_is_of_what_is_said_not_of_how_it_is_written(project: Make, right: str) -> None:
    first = definition_digest(load(project(right)))
    assert first.startswith("sha256:")
    assert definition_digest(load(project("# a comment\n" + right))) == first
    assert definition_digest(load(project(right.replace("0.8}", "0.81}")))) != first


def test_the_published_schema_is_the_one_the_code_makes() -> None:
    published = Path(__file__).parents[2] / "docs" / "reference" / "homeostat.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(schema())), (
        "run `homeostat schema > docs/reference/homeostat.schema.json`"
    )


def test_the_reference_shows_every_key_as_the_code_has_it() -> None:
    from homeostat.definition.reference import tables

    page = Path(__file__).parents[2] / "docs" / "reference" / "definition.md"
    assert page.read_text().endswith("keeps it equal -->\n\n" + tables()), (
        "replace the end of the page by `homeostat schema --markdown`"
    )


def test_the_schema_is_a_schema_and_describes_every_field() -> None:
    from jsonschema import Draft202012Validator

    made = schema()
    Draft202012Validator.check_schema(made)
    silent = [
        f"{name}.{field}"
        for name, body in {"Project": made, **made["$defs"]}.items()
        for field, rule in body["properties"].items()
        if not rule.get("description")
    ]
    assert silent == []


RIGHT_TEXT = """
name: a
data: {source: a.csv, time: t, key: k, label: {column: y, matures_after: 7d}}
training: {fit: "a:fit", split: {train: 28d, gap: 7d, test: 7d}}
"""
words = st.sampled_from(["name", "data", "source", "7d", "auc", "min", "label", *SECTIONS])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(section=st.sampled_from(SECTIONS), value=values)
def test_whatever_is_written_the_answer_is_a_project_or_a_list_of_mistakes(
    section: str, value: object
) -> None:
    written = yaml.safe_load(RIGHT_TEXT) | {section: value}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "homeostat.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
        told = check(Path(folder)).mistakes
        with contextlib.suppress(BadDefinition):
            load(Path(folder))
            told = []
    assert all(m.line().startswith("homeostat.yaml:") for m in told)


def test_unknown_keys_do_not_hide_cross_checks(project: Make, right: str) -> None:
    text = right.replace("[10, 50, 100]", "[10, 50]").replace("gates:", "gatez:")
    assert {m.path for m in mistakes(project(text))} == {"$.gatez", "$.rollout.steps[1]"}
