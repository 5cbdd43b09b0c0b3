"""`escrow definition explain`, `list`, `show`, `diff`, and `escrow order graph`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import Settings
from orchestrator.contract import canonical
from orchestrator.files import shipped_definition
from orchestrator.saga.definition import Definition, read
from orchestrator.store.definitions import Registration
from orchestrator.store.engine import make_engine
from orchestrator.store.transaction import SqlStore
from orchestrator.web.api import models
from tests.cli.kit import NOW, Api, Escrow

SHIPPED = Path(__file__).parents[2] / "orchestrator" / "definitions" / "order.yaml"
TEXT = SHIPPED.read_text(encoding="utf-8")
SLOWER = TEXT.replace("version: 1", "version: 2").replace("deadline: 60s", "deadline: 90s")

BRANCHED = """
definition: loan
version: 3
opens_on: LoanAsked
key: order_id
patience: 2h
labels: [region]
steps:
  - choose: by_amount
    cases:
      - when: 'order.amount > 5 && order.name == "Ä: #1"'
        steps: [{step: visit, ask: branch, command: Visit, done_on: Visited, deadline: 10s, harmless: true}]
  - repeat: scoring
    until: replies.score.points > 1
    at_most: 2
    steps:
      - parallel: both
        steps:
          - {step: score, ask: bureau, command: Score, with: {no: '"no"'}, done_on: Scored, deadline: 10s, harmless: true}
          - {step: rate, ask: bureau, command: Rate, with: [order_id], done_on: Rated, deadline: 1m, harmless: true}
"""


def registration(definition: Definition, *, is_opener: bool) -> Registration:
    """As a start registers it."""
    return Registration(
        name=definition.name,
        version=definition.version,
        fingerprint=definition.fingerprint,
        raw=canonical.encode(definition.raw),
        expanded=canonical.encode(definition.expanded),
        opens_on=definition.expanded["opens_on"],
        is_opener=is_opener,
    )


@pytest.fixture
def registered(escrow_with: Callable[[Settings], Escrow], tmp_path: Path) -> Escrow:
    """A command line with a database that knows two versions of the order definition, and others."""
    url = f"sqlite:///{tmp_path}/escrow.db"
    escrow = escrow_with(Settings(database_url=url))
    assert escrow("db", "upgrade").exit_code == 0
    engine = make_engine(url, clock=lambda: NOW)
    store = SqlStore(engine, shard=0)
    store.register([registration(read(SLOWER, "slower.yaml"), is_opener=False), registration(shipped_definition("order"), is_opener=True)])
    store.register([registration(read(BRANCHED, "loan.yaml"), is_opener=True)])
    store.register([registration(shipped_definition("house_closing"), is_opener=True)])
    engine.dispose()
    return escrow


def test_explain_tells_the_definition(escrow: Escrow) -> None:
    """If it failed, an author would have to read the code to know what silence brings about."""
    result = escrow("definition", "explain", str(SHIPPED))
    assert result.exit_code == 0
    assert "It is asked up to 4 times in all, over at most 2 min 35 s" in result.stdout
    document = json.loads(escrow("definition", "explain", str(SHIPPED), "-o", "json").stdout)
    assert (document["definition"], document["version"], document["bounds"]["decided_ms"]) == ("order", 1, 310_000)
    texts = [line["text"] for section in document["sections"] for line in section["lines"]]
    assert all(text in result.stdout for text in texts)


def test_explain_tells_no_definition_that_is_wrong(escrow: Escrow) -> None:
    """If it failed, sentences would be told of what does not run."""
    result = escrow("definition", "explain", "-", stdin=TEXT.replace("patience: 30m", "patience: 30s"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "patience" in result.stderr


def test_list_shows_every_version_and_who_opens(registered: Escrow) -> None:
    """If it failed, nobody would see which version new orders get, or what is still in use."""
    listed = json.loads(registered("definition", "list", "-o", "json").stdout)
    models.DefinitionsPage.model_validate(listed)
    assert [(item["name"], item["version"], item["is_opener"], item["open_orders"]) for item in listed["items"]] == [
        ("house_closing", 1, True, 0),
        ("loan", 3, True, 0),
        ("order", 1, True, 0),
        ("order", 2, False, 0),
    ]
    table = registered("definition", "list").stdout
    assert re.search(r"^order +1 +OrderPlaced +yes +0 +[0-9a-f]{12} +2026-11-21T12:00:00Z$", table, re.MULTILINE)


@pytest.mark.parametrize("name", ["order", "loan", "house_closing"])
def test_show_is_a_definition_file_again(registered: Escrow, name: str) -> None:
    """If it failed, what is registered could not be edited into the next version."""
    shown = registered("definition", "show", name)
    listed = json.loads(registered("definition", "list", "-o", "json").stdout)["items"]
    kept = next(item for item in listed if item["name"] == name)
    again = read(shown.stdout, "shown.yaml")
    assert (again.name, again.version, again.fingerprint) == (name, kept["version"], kept["fingerprint"])
    assert hashlib.sha256(canonical.encode(again.raw)).hexdigest() == kept["fingerprint"]
    assert shown.stdout.startswith(f"definition: {name}\nversion: {kept['version']}\nopens_on: ")


def test_a_graph_is_shown_from_where_orders_begin(registered: Escrow) -> None:
    """If it failed, its states would stand in an order that nobody reads them in."""
    shown = registered("definition", "show", "house_closing").stdout
    assert re.search(r"^states:\n  awaiting_signatures:\n", shown, re.MULTILINE)
    assert "    deadline:\n      after: 14d\n      then: closing_unfinished\n" in shown
    assert "    ask: bank\n    command: PaySeller\n    with:\n" in shown


def test_show_has_versions_and_defaults(registered: Escrow) -> None:
    """If it failed, an operator would look at another version than the order runs on."""
    assert "deadline: 90s" in registered("definition", "show", "order", "2").stdout
    assert "deadline_ms: 90000" in registered("definition", "show", "order", "2", "--expanded").stdout
    document = json.loads(registered("definition", "show", "order", "-o", "json").stdout)
    models.DefinitionDocuments.model_validate(document)
    assert (document["version"], document["document"]["patience"], document["expanded"]["patience_ms"]) == (1, "30m", 1_800_000)


def test_what_is_not_registered_is_told(registered: Escrow) -> None:
    """If it failed, a slip in a name would be a traceback, or show something else."""
    for arguments, text in (
        (["show", "ordre"], "loan, order are"),
        (["show", "order", "9"], "1, 2 are registered"),
        (["diff", "order@1", "order@3"], "1, 2 are registered"),
    ):
        result = registered("definition", *arguments)
        assert result.exit_code == 3
        assert text in result.stderr


def test_diff_ends_like_diff(registered: Escrow, tmp_path: Path) -> None:
    """If it failed, CI could not tell a change for running orders from a comment."""
    told = registered("definition", "diff", "order@1", "order@2")
    assert (told.exit_code, told.stdout) == (1, "email_invoice: deadline: 1 min → 1 min 30 s.\n")
    file = tmp_path / "order.yaml"
    file.write_text("# Another way to write it.\n" + TEXT.replace("version: 1", "version: 5"))
    same = registered("definition", "diff", "order@1", str(file))
    assert (same.exit_code, same.stdout) == (0, f"Nothing changes for orders between order@1 and {file}.\n")
    document = json.loads(registered("definition", "diff", "order@2", str(file), "-o", "json").stdout)
    assert document["changes"] == [{"about": "email_invoice", "text": "deadline: 1 min 30 s → 1 min."}]
    assert (document["old"]["open_orders"], document["new"]["open_orders"]) == (0, None)


def test_two_files_need_no_database(escrow: Escrow) -> None:
    """If it failed, an author could not compare before anything is set up."""
    assert escrow("definition", "diff", str(SHIPPED), "-", stdin=SLOWER).exit_code == 1
    assert escrow("definition", "diff", str(SHIPPED), str(SHIPPED)).exit_code == 0
    assert escrow("definition", "diff", "order@1", str(SHIPPED)).exit_code == 2


def test_an_order_is_drawn(api: Api, escrow: Escrow) -> None:
    """If it failed, an operator would not see where an order can come to."""
    drawn = {"mermaid": "stateDiagram-v2\n    class a current\n", "current": "a"}
    api.on("GET", "/v1/orders/order-1/graph", drawn)
    assert escrow("order", "graph", "order-1").stdout == drawn["mermaid"]
    assert json.loads(escrow("order", "graph", "order-1", "-o", "json").stdout) == drawn
    assert escrow("order", "graph", "order-2").exit_code == 3
