"""Where answers go: a template's places, its mistakes, and what to subscribe to."""

from __future__ import annotations

import pytest

from edge_agent.config import AgentConfig
from edge_agent.results.topic import check_template, fill, filter_of
from split_core.config import convert
from split_core.errors import ConfigError
from split_core.wire.topics import matches

RECORD = {"source": "door.jpg", "outcome": "remote", "top": [{"index": 3, "label": "red fox"}]}


@pytest.mark.parametrize("template, changes, topic", [
    ("home/{id}/{source}", {}, "home/pi/door.jpg"),
    ("home/{outcome}/{label}", {}, "home/remote/red fox"),
    ("{source}", {"source": "a/b+c#"}, "a_b_c_"),
    ("x/{source}", {"source": ""}, "x/frame"),
    ("x/{label}", {"top": [{"index": 3, "label": None}]}, "x/3"),
    ("x/{label}", {"top": None, "text": "0042"}, "x/0042"),
    ("x/{label}", {"top": None}, "x/none"),
    ("x/{label}", {"top": None, "objects": []}, "x/none"),
    ("x/{label}", {"top": None, "objects": [
        {"label": "cat", "score": 0.2, "index": 1}, {"label": "dog", "score": 0.9, "index": 2}]},
     "x/dog"),
    ("x/{label}", {"top": None, "text": "y" * 999}, "x/" + "y" * 100),
    ("x/{source}", {"source": "{label}"}, "x/{label}"),
])
def test_places_are_filled_in(template, changes, topic):
    assert fill(template, "pi", RECORD | changes) == topic


@pytest.mark.parametrize("template, words", [
    ("home/{lable}", "result.topic has {lable}; did you mean {label}?"),
    ("home/{}", "wanted {id}, {source}, {outcome}, {label}"),
    ("home/+", "without + and #"), ("", "wanted one topic"),
])
def test_mistakes_are_found_at_the_start(template, words):
    with pytest.raises(ConfigError) as error:
        convert({"model": {"bundle": "m"}, "result": {"topic": template}}, AgentConfig,
                "x").check()
    assert words in str(error.value)


@pytest.mark.parametrize("template", ["a/{id}/{source}", "a/{label}-{outcome}/b", "{id}"])
def test_a_filter_matches_what_is_published(template):
    check_template(template)
    assert matches(filter_of(template, "pi"), fill(template, "pi", RECORD))
