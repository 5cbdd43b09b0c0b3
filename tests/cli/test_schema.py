"""`escrow definition schema`: what editors are told is what the validator takes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from orchestrator.cli.schema import make
from orchestrator.saga.check import check
from orchestrator.saga.definition import read
from orchestrator.saga.document import Document
from orchestrator.saga.expression import LENGTH_MAX
from orchestrator.saga.source import parse
from tests.cli.kit import Escrow
from tests.fuzz.seeds import EVERY_STATE, EVERY_WORD, SEEDS

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "reference" / "definition.schema.json"

BASES = [parse(text, "seed.yaml")[0] for text in SEEDS]
KEYS = st.sampled_from(
    sorted({key for found in [make(), *make()["$defs"].values()] for key in found["properties"]} | {"with_", "set_", "from_", ""})
) | st.text(max_size=3)
TEXTS = st.sampled_from(
    [
        *("a", "A-1_b", "9a", "a.b", "a.b.c", "a..b", ".a", "a" * 64, "a" * 65, "é", "a\n", "", "undo", "go_on"),
        *("all", "on_silence", "park", "failed", "quarantine"),
        *("30s", "0s", "00m0s", "1h30m", "30s\n", "1m 2s", "11000d", "9" * 12 + "d", "9" * 13 + "ms"),
        *("order.a > 1", "order.", "x" * LENGTH_MAX, "1 == 1 ||" + " " * LENGTH_MAX),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 2, 1000, 1001, 1_000_001, -1, 1.0, 1.5, 10.0, 10.5, 0.5])
    | TEXTS
    | st.text(max_size=4)
)
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3) | TEXTS.map(lambda text: [text] * 33),
    max_leaves=6,
)


def validator() -> Draft202012Validator:
    """The published schema, read as ECMA 262 reads its patterns: `$` is the end of the text, not the place before a last line break."""
    Draft202012Validator.check_schema(make())
    text = re.sub(r'("pattern": "\^.*)\$"', r'\1\\\\Z"', json.dumps(make(), indent=1))
    return Draft202012Validator(json.loads(re.sub(r'"(\^.*)\$": \{', r'"\1\\\\Z": {', text)))


VALIDATOR = validator()


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a document, itself left out."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(document: Any, draw: Any) -> None:
    """Change one place: another value, one from elsewhere, none, a key too many, an item again and again."""
    path = draw(st.sampled_from(sorted(places(document), key=str) or [()]))
    if not path:
        return
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    last = path[-1]
    match draw(st.sampled_from(["value", "value", "move", "remove", "add", "repeat"])):
        case "value":
            holder[last] = draw(VALUES)
        case "move":
            source = document
            for key in draw(st.sampled_from(sorted(places(document), key=str))):
                source = source[key]
            holder[last] = copy.deepcopy(source)
        case "remove":
            del holder[last]
        case "add" if isinstance(holder, dict):
            holder[draw(KEYS)] = draw(VALUES)
        case "repeat" if isinstance(holder[last], list):
            holder[last] = holder[last] * draw(st.sampled_from([0, 2, 9, 33]))
        case _:
            holder[last] = [holder[last]] * draw(st.sampled_from([0, 2, 9, 33]))


@st.composite
def documents(draw: Any) -> Any:
    """A definition, changed at one to four places."""
    document = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 4))):
        mutate(document, draw)
    return document


def says_a_schema(error: Any) -> bool:
    """Whether a finding of the validator is one that a JSON Schema can say. Three are not.

    Whether an expression compiles; whether the sum of a duration is at most ten years; and that `1.0` is no integer, for to JSON it is one.
    """
    found, input_ = error["type"], error["input"]
    if found == "int_type":
        return not (isinstance(input_, float) and input_.is_integer())
    if found == "value_error" and isinstance(input_, str) and error["loc"][-1] != "[key]":
        if error["loc"][-1] in {"when", "until", "done_when", "at"} or {"(computed)", "set"} & {*error["loc"]}:
            return len(input_) > LENGTH_MAX
        return error["msg"] != "Value error, a duration lies between 1ms and ten years" or not re.search("[1-9]", input_)
    return True


def findings(document: Any) -> list[Any]:
    """What the validator finds that a schema can say."""
    try:
        Document.model_validate(document)
    except ValidationError as error:
        return [item for item in error.errors() if says_a_schema(item)]
    return []


def test_the_command_prints_the_published_schema(escrow: Escrow) -> None:
    """If it failed, editors would complete a language that Escrow no longer speaks. `make docs` writes it anew."""
    assert escrow("definition", "schema").stdout == COMMITTED.read_text(encoding="utf-8")


def test_every_key_says_what_it_means() -> None:
    """If it failed, an editor would offer a key and say nothing about it."""
    models = [make(), *make()["$defs"].values()]
    assert all(model["description"] and model["additionalProperties"] is False for model in models)
    assert [key for model in models for key, value in model["properties"].items() if not value.get("description")] == []


def test_what_is_right_fits() -> None:
    """If it failed, an editor would underline what is right."""
    assert [list(VALIDATOR.iter_errors(base)) for base in BASES] == [[]] * len(BASES)
    assert [check(read(text, "seed.yaml")) for text in SEEDS] == [[]] * len(SEEDS)


def test_every_word_is_mutated() -> None:
    """If it failed, a word that is new in the language would not be compared below."""
    seeds = [parse(text, "seed.yaml")[0] for text in (EVERY_WORD, EVERY_STATE)]
    used = {part for seed in seeds for path in places(seed) for part in path if isinstance(part, str)}
    assert used >= {key for model in [make(), *make()["$defs"].values()] for key in model["properties"]}


@settings(max_examples=600, deadline=None)
@given(document=documents())
def test_the_schema_takes_what_the_validator_takes(document: Any) -> None:
    """If it failed, an editor would pass what Escrow refuses to start with, or underline what it takes."""
    assert VALIDATOR.is_valid(document) == (not findings(document)), (list(VALIDATOR.iter_errors(document)), findings(document))
