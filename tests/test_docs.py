"""The pages under `docs/` say what the code says: every list in them that could drift is compared with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from fastapi.routing import APIRoute
from prometheus_client.metrics_core import Metric

from orchestrator.app.fleet import KEYS_KEPT_FOR
from orchestrator.app.sizes import COMMAND_DATA_BYTES_MAX
from orchestrator.bus.doctor import needed
from orchestrator.cli.exits import MEANINGS
from orchestrator.config import Settings
from orchestrator.contract import Topology
from orchestrator.contract.envelope import BODY_BYTES_MAX
from orchestrator.metrics import Levels, Metrics
from orchestrator.saga.check import check
from orchestrator.saga.decision import Verdict
from orchestrator.saga.definition import read
from orchestrator.saga.document import Document
from orchestrator.saga.expand import expand
from orchestrator.saga.language import Retry
from orchestrator.saga.order import CAUSES, Status
from orchestrator.saga.policies import CELLS
from orchestrator.web import params
from orchestrator.web.api.acts import ACTS
from orchestrator.web.app import ROUTERS
from orchestrator.web.problems import CATALOGUE

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "orchestrator").rglob("*.py")))
#: Lines of a page, without its blocks of code.
LINES_MAX = 200


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table that begins with this head, without backquotes."""
    block = text.partition(f"| {head} |")[2].partition("\n\n")[0]
    cells = [re.split(r"(?<!\\)\|", line.strip("| ")) for line in block.splitlines()[2:]]
    assert cells, head
    return [[cell.strip().replace("`", "").replace("\\|", "|") for cell in row] for row in cells]


def exported() -> Iterator[Metric]:
    """Every metric, with a value for each level."""
    metrics = Metrics()
    orders = {("order", "completed", "completed"): 1}
    told, held = {"inventory": "silent"}, {"inventory": 1}
    metrics.read_levels_from(
        lambda: Levels(orders=orders, outbox_age_s=0, outbox_messages=0, parked=0, quarantine_open=0, participants=told, held=held)
    )
    yield from metrics.registry.collect()


def test_the_causes_are_those_of_an_order() -> None:
    """If it failed, a program would meet a cause that no page explains."""
    assert rows(page("api"), "cause | means") == [[code, text.replace("`", "")] for code, text in CAUSES.items()]


def test_the_limits_are_those_of_the_api() -> None:
    """If it failed, a caller would send what is refused, or count on an answer that is forgotten."""
    text = page("api")
    assert f"`limit` (1 to {params.LIMIT_MAX}, else {params.LIMIT_DEFAULT})" in text
    assert f"at most {BODY_BYTES_MAX} bytes" in text
    assert f"more than {COMMAND_DATA_BYTES_MAX} bytes of data" in text
    assert f"Keys are kept for {KEYS_KEPT_FOR.days} days" in text


def test_the_statuses_and_verdicts_are_those_of_the_core() -> None:
    """If it failed, a status or a verdict would be without a meaning."""
    assert [row[0] for row in rows(page("api"), "status | means")] == list(get_args(Status))
    assert [row[0] for row in rows(page("api"), "verdict | means")] == list(get_args(Verdict))


def test_the_problems_are_those_of_the_catalogue() -> None:
    """If it failed, a client would handle codes that are never sent, or not those that are."""
    told = [(code, int(status), when, then) for code, status, when, then in rows(page("api"), "code | status | when | next")]
    assert told == [(kind.code, kind.status, kind.when.replace("`", ""), kind.next.replace("`", "")) for kind in CATALOGUE.values()]


def test_the_acts_are_those_of_the_api() -> None:
    """If it failed, an operator would miss an act, or call it with what it does not take."""
    told = [(act, verb, takes, role) for act, verb, takes, role, _ in rows(page("api"), "act | command line | takes | role | does")]
    assert told == [(act.path, act.act, ", ".join(name for name, _ in act.takes) or "–", act.role) for act in ACTS]


def test_the_routes_are_those_of_the_api() -> None:
    """If it failed, a route would be hidden, or named and not there."""
    told = {route for route, _, _ in rows(page("api"), "route | role | does") if not route.endswith("<act>")}
    there = {
        f"{method} {route.path}"
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert told == {route for route in there if not route.startswith("POST /v1/admin/orders/")}


def test_the_reasons_of_the_quarantine_are_all_told() -> None:
    """If it failed, an operator would look at a quarantined message and not know what its reason means."""
    told = {row[0] for row in rows(page("api"), "reason | means")}
    raised = set(re.findall(r'quarantine[(=]"([a-z_]+)"|^ +code = "([a-z_]+)"|"(parked_expired|internal_error)"', SOURCES, re.MULTILINE))
    assert told == {name for names in raised for name in names if name} | {*CELLS}


def test_the_settings_are_those_of_the_code() -> None:
    """If it failed, a page would name a setting that is refused at start, or leave one out."""
    known = {f"ESCROW_{name.upper()}" for name in Settings.model_fields}
    told = {name for row in rows(page("operations"), "setting | for") for name in row[0].split(", ")}
    assert told == known
    assert {name for path in PAGES for name in re.findall(r"ESCROW_[A-Z_]+[A-Z]", path.read_text(encoding="utf-8"))} <= known


def test_the_metrics_are_those_of_the_code() -> None:
    """If it failed, a dashboard would be made with names that nobody exports."""
    told = {name for row in rows(page("operations"), "metric | means") for name in row[0].split(", ")}
    there = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in exported()}
    assert told == there
    assert set(re.findall(r"escrow_[a-z_]+[a-z]", page("operations"))) - {"escrow_run"} <= there


def test_the_alerts_are_all_told() -> None:
    """If it failed, an alert would fire under a name that no page explains."""
    raised = set(re.findall(r'alerts\.append\(f?"([a-z_]+)|alerts\.labels\(name="([a-z_]+)"', SOURCES))
    told = page("operations").partition("Names of `escrow_alerts_total`:")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)` \(|`([a-z_]+)`\.", told)) != set()
    assert {name for names in raised for name in names if name} == set(re.findall(r"`([a-z_]+)`", told)) - {"escrow_alerts_total"}


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    """If it failed, scripts would rely on codes that mean something else."""
    assert rows(page("operations"), "code | means") == [[str(code.value), meaning] for code, meaning in MEANINGS.items()]


def test_the_rights_are_those_that_the_doctor_asks_for() -> None:
    """If it failed, whoever sets up a broker by the page would be told by the doctor to do it otherwise."""
    [escrow, _] = rows(page("operations"), "user | configure | write | read")
    rights = needed(Topology("escrow"))
    assert escrow == ["Escrow", rights.configure, rights.write, rights.read]


def test_the_defaults_by_place_are_those_of_the_code() -> None:
    """If it failed, an author would reckon with other waits than Escrow keeps."""
    step = {"ask": "p", "command": "Do", "done_on": "Done", "deadline": "1s"}
    undo = {"command": "Undo", "done_on": "Undone", "deadline": "1s"}
    document = {"definition": "d", "version": 1, "opens_on": "Opened", "key": "k", "patience": "1h"}
    steps = [{**step, "step": "a", "undo": undo}, {**step, "step": "b", "pivot": True}]
    before, after = (one["retry"] for one in expand(Document.model_validate({**document, "steps": steps}))["steps"])
    told = {name: field.description or "" for name, field in Retry.model_fields.items()}

    assert before == {"attempts": 3, "first_ms": 1_000, "factor": 2.0, "max_ms": 60_000, "stuck_after": None}
    assert after == {"attempts": None, "first_ms": 5_000, "factor": 2.0, "max_ms": 300_000, "stuck_after": 5}
    assert "Default before the pivot: 3. Elsewhere refused" in told["attempts"]
    assert "Default before the pivot: 1s. Elsewhere: 5s." in told["first"]
    assert "Default: 2." in told["factor"]
    assert "Default before the pivot: 60s. Elsewhere: 5m." in told["max"]
    assert "Default elsewhere: 5." in told["stuck_after"]


def test_the_examples_of_the_language_are_right() -> None:
    """If it failed, the first graph of states, or the first watched step, that an author copies would be refused."""
    head = "definition: d\nversion: 1\nopens_on: Opened\nkey: order_id\npatience: 60d\n"
    [states] = re.findall(r"^```yaml\n(states:.*?)```", page("states"), re.DOTALL | re.MULTILINE)
    assert check(read(head + states, "states.md")) == []
    watched, answer, policies = re.findall(r"^```yaml\n(.*?)```", page("definitions"), re.DOTALL | re.MULTILINE)
    watched = watched.replace("step: update_inventory", "step: update_inventory\n    state: updating_inventory")
    pay = "  - step: pay\n    ask: payment\n    command: Pay\n    deadline: 30s\n    retry: {attempts: 5}\n    harmless: true\n"
    mail = "  - {step: mail, ask: invoice, command: Mail, done_on: InvoiceEmailed, deadline: 1m, pivot: true}\n"
    assert check(read(f"{head}{policies}steps:\n{watched}{pay}{answer}{mail}", "definitions.md")) == []


@pytest.mark.parametrize("name", ["guarantees", "explanation/semantics"])
def test_the_tests_that_a_page_names_exist(name: str) -> None:
    """If it failed, a promise would be shown by a test that is not there."""
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z_0-9]+)`", page(name))
    assert page(name).count("tests/") == len(named)
    missing = [f"{file}::{test}" for file, test in named if not re.search(rf"def {test}\(", _text(ROOT / file))]
    assert missing == []


def test_every_guarantee_names_its_test() -> None:
    """If it failed, a promise would stand there that nobody checks."""
    assert [row[0] for row in rows(page("guarantees"), "what | rules | shown by") if not row[2].startswith("tests/")] == []


def test_every_rule_is_told_with_its_tests() -> None:
    """If it failed, a rule of the design would be missing, or promised and shown by nothing."""
    told = re.findall(r"^\*\*R([0-9]+)\. .*?\*\* (.*?)(?=\n\n|\Z)", page("explanation/semantics"), re.DOTALL | re.MULTILINE)
    assert [int(number) for number, _ in told] == list(range(1, 33))
    assert [number for number, text in told if "Shown by `tests/" not in text and text.strip() != "Not built yet."] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_short_linked_and_lead_somewhere(path: Path) -> None:
    """If it failed, a page would be too long to read, found by nobody, or lead nowhere."""
    text = _text(path)
    assert len(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()) <= LINES_MAX
    assert f"({path.relative_to(ROOT).as_posix()})" in _text(ROOT / "README.md")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
