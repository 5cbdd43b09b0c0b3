"""The commands that need no API: definitions, database, tokens, doctor, verify."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.app.rebuild import Rebuilt
from orchestrator.app.restore import Discrepancy, Report, rebuild_order
from orchestrator.config import Settings
from tests.cli.kit import Escrow

SHIPPED = Path(__file__).parents[2] / "orchestrator" / "definitions" / "order.yaml"
With = Callable[[Settings], Escrow]


@pytest.fixture
def migrated(escrow_with: With, tmp_path: Path) -> Escrow:
    """A command line with a migrated SQLite database."""
    escrow = escrow_with(Settings(database_url=f"sqlite:///{tmp_path}/escrow.db"))
    assert escrow("db", "upgrade").exit_code == 0
    return escrow


def test_check_passes_the_shipped_definition(escrow: Escrow) -> None:
    """The shipped definition would not be right, or the check would not say so."""
    result = escrow("definition", "check", str(SHIPPED))

    assert (result.exit_code, result.stdout) == (0, f"{SHIPPED}: order version 1 is right.\n")


@pytest.mark.parametrize("text", ["", "definition: [", "definition: x\nversion: 1\nbogus: 2\n", "\t", "a: &a [*a]", "- 1"])
def test_check_names_file_line_and_fix(escrow: Escrow, text: str) -> None:
    """An author would not know where the definition is wrong, or CI would pass it."""
    result = escrow("definition", "check", "-", stdin=text)

    assert result.exit_code == 1
    assert all(line.startswith("<stdin>:") and "Fix:" in line for line in result.stdout.splitlines())
    documents = json.loads(escrow("definition", "check", "-", "-o", "json", stdin=text).stdout)
    assert documents[0]["findings"][0]["fix"]


def test_check_goes_on_after_a_bad_file(escrow: Escrow, tmp_path: Path) -> None:
    """With many files only the first bad one would be told."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("definition: x")

    result = escrow("definition", "check", str(bad), str(SHIPPED), "-o", "json")

    assert result.exit_code == 1
    assert [bool(document["findings"]) for document in json.loads(result.stdout)] == [True, False]


def test_graph_draws_the_states(escrow: Escrow) -> None:
    """The README's diagram could not be made."""
    result = escrow("definition", "graph", str(SHIPPED))

    assert result.exit_code == 0
    assert result.stdout.startswith("stateDiagram-v2\n")
    assert json.loads(escrow("definition", "graph", str(SHIPPED), "-o", "json").stdout)["mermaid"] == result.stdout


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"x" * 1_000_001])
def test_a_file_that_cannot_be_read_is_named(escrow: Escrow, tmp_path: Path, content: bytes | None) -> None:
    """A missing, binary or endless file would be a traceback."""
    file = tmp_path / "file.yaml"
    if content is not None:
        file.write_bytes(content)

    for verb in ("check", "graph"):
        result = escrow("definition", verb, str(file))
        assert result.exit_code == 2
        assert result.stderr.startswith(f"escrow: {file} ")


def test_db_upgrade_then_check(escrow_with: With, tmp_path: Path) -> None:
    """A database that is not migrated would be taken for one that is, or the other way round."""
    escrow = escrow_with(Settings(database_url=f"sqlite:///{tmp_path}/escrow.db"))

    before = escrow("db", "check")
    assert (before.exit_code, before.stderr) == (2, "escrow: The database is not migrated: run `escrow db upgrade`.\n")
    assert escrow("db", "upgrade").exit_code == 0
    assert escrow("db", "upgrade", "-o", "json").exit_code == 0
    assert json.loads(escrow("db", "check", "-o", "json").stdout)["ok"] is True


def test_db_sql_needs_no_database(escrow: Escrow) -> None:
    """A database administrator could not see what would be run."""
    result = escrow("db", "sql", "--url", "postgresql+psycopg://nowhere/x")

    assert result.exit_code == 0
    assert "CREATE TABLE" in result.stdout
    assert "CREATE TABLE" in json.loads(escrow("db", "sql", "--url", "sqlite:////x", "-o", "json").stdout)["sql"]


@pytest.mark.parametrize("arguments", [["db", "check"], ["db", "upgrade"], ["db", "sql"], ["token", "list"], ["verify"]])
def test_without_a_database_it_says_what_to_set(escrow: Escrow, arguments: list[str]) -> None:
    """A newcomer would not know which setting is missing."""
    result = escrow(*arguments)

    assert result.exit_code == 2
    assert "ESCROW_DATABASE_URL is not set" in result.stderr


def test_a_database_that_does_not_answer(escrow_with: With) -> None:
    """An outage would be a traceback, or look like wrong usage; or the password would be shown."""
    escrow = escrow_with(Settings(database_url="postgresql+psycopg://escrow:pa55word@127.0.0.1:1/escrow"))

    for arguments in (["db", "check"], ["db", "upgrade"], ["token", "list"]):
        result = escrow(*arguments)
        assert result.exit_code == 6, result.output
        assert len(result.stderr.splitlines()) == 1
        assert "pa55word" not in result.output


def test_a_token_is_made_listed_and_revoked(migrated: Escrow) -> None:
    """Nobody could be let in, or put out again."""
    made = migrated("token", "create", "ana", "--role", "operator")
    assert made.stdout == f"escrow_{'t' * 43}\n"
    assert "ana" in made.stderr

    assert migrated("token", "create", "ana", "--role", "admin").exit_code == 4
    listed = migrated("token", "list", "-o", "json")
    assert "ttt" not in listed.stdout
    assert [("ana", "operator", None)] == [(i["name"], i["role"], i["revoked_at"]) for i in json.loads(listed.stdout)["items"]]

    assert migrated("token", "revoke", "ana").stdout == "ana revoked\n"
    assert migrated("token", "revoke", "ana").exit_code == 3
    assert "ana" in migrated("token", "list").stdout


@pytest.mark.parametrize("arguments", [["a b", "--role", "admin"], ["ana", "--role", "king"], ["ana"]])
def test_a_token_needs_a_name_and_a_role(migrated: Escrow, arguments: list[str]) -> None:
    """A token would be made for nobody, or with a role that does not exist."""
    assert migrated("token", "create", *arguments).exit_code == 2


def test_doctor_says_what_is_missing(escrow: Escrow) -> None:
    """The first question of every installation, what is not set up, would stay open."""
    result = escrow("doctor", "-o", "json")

    assert result.exit_code == 1
    assert [("database", False), ("broker", False)] == [(check["name"], check["ok"]) for check in json.loads(result.stdout)]
    assert "ESCROW_AMQP_URL" in escrow("doctor").stdout


def test_doctor_says_in_one_line_that_the_database_is_away(escrow_with: With) -> None:
    """The driver's text, of several lines, would tear the table, and stand where the fix belongs."""
    escrow = escrow_with(Settings(database_url="postgresql+psycopg://escrow:pa55word@127.0.0.1:1/escrow"))

    [database, _] = json.loads(escrow("doctor", "-o", "json").stdout)
    assert (database["name"], database["ok"]) == ("database", False)
    assert "Connection refused" in database["detail"]
    assert database["fix"].startswith("see that it runs")
    assert not {"\n", "\t"} & {*database["detail"], *database["fix"]}
    assert "\\n" not in escrow("doctor").stdout


def test_doctor_examines_what_is_set(escrow_with: With, tmp_path: Path) -> None:
    """An unmigrated database and a broker that is away would not be told apart from good ones."""
    url = f"sqlite:///{tmp_path}/escrow.db"
    escrow = escrow_with(Settings(database_url=url, amqp_url="amqp://guest:pa55word@127.0.0.1:1/"))

    checks = json.loads(escrow("doctor", "-o", "json").stdout)
    assert checks[0]["fix"] == "run `escrow db upgrade`."
    assert checks[1]["ok"] is False
    assert checks[1]["fix"]

    escrow("db", "upgrade")
    result = escrow("doctor", "-o", "json")
    assert json.loads(result.stdout)[0]["ok"] is True
    assert "pa55word" not in result.output


def test_verify_of_a_new_database_is_clean(migrated: Escrow) -> None:
    """A database with nothing wrong would be reported."""
    assert migrated("verify").exit_code == 0
    report = json.loads(migrated("verify", "--deep", "--parallel", "1", "-o", "json").stdout)
    assert {name: report[name] for name in ("orders", "entries", "findings", "more", "decided")} == {
        "orders": 0,
        "entries": 0,
        "findings": [],
        "more": 0,
        "decided": 0,
    }


def test_verify_shows_what_does_not_agree(migrated: Escrow) -> None:
    """A damaged history would go unseen, or its exit code say that all is well."""
    finding = Discrepancy(order_id="order-1", what="The row differs.", mend="Rebuild it.")
    migrated.session.verify = lambda _, **__: Report(orders=1, entries=2, findings=(finding,))

    result = migrated("verify")

    assert result.exit_code == 1
    assert "The row differs." in result.stdout
    assert "Rebuild it." in result.stdout


def test_verify_tells_what_is_no_finding_apart(migrated: Escrow) -> None:
    """An upgrade, or orders that move, would look like damage; or damage like an upgrade."""
    migrated.session.verify = lambda _, **__: Report(orders=9, entries=80, decided=80, other_form=2, other_form_orders=("o",), moving=3)

    result = migrated("verify", "--deep")

    assert result.exit_code == 0
    assert "Orders: 9, journal entries: 80, decided again: 80. All agree." in result.stdout
    assert "2 entries were written in another form" in result.stdout
    assert "3 orders were opened or moved meanwhile" in result.stdout
    assert result.stderr == ""


def test_verify_says_when_to_rebuild_all(migrated: Escrow) -> None:
    """After a table was emptied an operator would rebuild thousands of orders one by one; or all of them, stopping everything, for one."""

    def differ(number: int) -> Report:
        found = (Discrepancy(order_id=f"o-{n}", what="its row is missing", mend=rebuild_order(f"o-{n}")) for n in range(number))
        return Report(orders=number, findings=tuple(found))

    migrated.session.verify = lambda _, **__: differ(11)
    assert "stop every `serve` and `worker`, then `escrow rebuild`" in migrated("verify").stdout
    migrated.session.verify = lambda _, **__: differ(10)
    assert "stop every" not in migrated("verify").stdout


def test_verify_and_rebuild_pass_on_what_was_asked(migrated: Escrow) -> None:
    """A long run would use one core, or another order be rebuilt."""
    asked: list[dict[str, object]] = []

    def verify(_: object, **more: object) -> Report:
        asked.append(more)
        return Report()

    def rebuild(_: object, **more: object) -> Rebuilt:
        asked.append(more)
        return Rebuilt(orders=1)

    migrated.session.verify, migrated.session.rebuild = verify, rebuild

    migrated("verify", "--deep", "--parallel", "3")
    migrated("rebuild", "--order", "o:1", "--parallel", "2")

    assert [(one.get("deep"), one.get("order_id"), one["processes"]) for one in asked] == [(True, None, 3), (None, "o:1", 2)]


def test_rebuild_of_a_new_database_does_nothing(migrated: Escrow) -> None:
    """An empty installation could not be told from a failure."""
    assert "Orders: 0, journal entries: 0. Made anew: 0." in migrated("rebuild").stdout
    assert json.loads(migrated("rebuild", "-o", "json").stdout)["mended"] == 0
    unknown = migrated("rebuild", "--order", "nobody")
    assert unknown.exit_code == 3
    assert "No table knows the order nobody. Fix: `escrow verify` names" in unknown.stderr
    assert migrated("rebuild", "--order", "no body").exit_code == 2


def test_rebuild_shows_what_it_did_and_what_it_left(migrated: Escrow) -> None:
    """An order whose history is damaged would seem to be mended."""
    finding = Discrepancy(order_id="order-1", what="Entry 3 is missing. It was left as it is.", mend="Restore it.")
    named = tuple(f"o-{n}" for n in range(12))
    migrated.session.rebuild = lambda _, **__: Rebuilt(
        orders=13, entries=40, mended=12, mended_orders=named, unparked=2, recounted=True, findings=(finding,)
    )

    result = migrated("rebuild")

    assert result.exit_code == 1
    assert "Made anew: 12." in result.stdout
    assert "o-9 and 2 more" in result.stdout
    assert "2 removed" in result.stdout
    assert "counted anew" in result.stdout
    assert "Restore it." in result.stdout
