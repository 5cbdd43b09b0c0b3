"""`escrow definition list`, `show` and `diff`: the definitions that the database knows, which orders are pinned to (R30)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.db import database_url
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.files import read_checked
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_table, print_text, when
from orchestrator.cli.session import Session, session_of
from orchestrator.contract import canonical
from orchestrator.contract.ids import NAME_PATTERN
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.saga.rulebook import Rulebook
    from orchestrator.store.definitions import Registered
    from orchestrator.store.queries import Queries

_REGISTERED = re.compile(rf"({NAME_PATTERN})@([0-9]{{1,7}})")
#: Characters of a fingerprint in a table.
_SHORT = 12

Side = Annotated[str, typer.Argument(metavar="NAME@VERSION|FILE", help="A registered definition, or a definition file; - for stdin.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `escrow definition`."""
    app.command("list")(list_definitions)
    app.command("show")(show)
    app.command("diff")(diff)


def list_definitions(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """List the registered definitions, with the orders that have not ended on each version."""
    from orchestrator.web import views

    session = session_of(ctx)
    with _queries(session) as queries:
        found, _ = queries.definitions()
    if output is Format.JSON:
        print_json({"items": [views.definition_view(row) for row in found], "next_cursor": None})
        return
    now = session.now()
    rows = [
        (row.name, row.version, row.opens_on, row.is_opener, row.open_orders, row.fingerprint[:_SHORT], when(row.registered_at, now))
        for row in found
    ]
    columns = ("name", "version", "opens on", "opens orders", "open orders", "fingerprint", "registered")
    print_table(columns, rows, empty="No definition is registered: 'escrow worker' and 'escrow serve' register theirs when they start.")


def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The definition's name.")],
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", min=1, help="Its version; default: the one that new orders get.")
    ] = None,
    expanded: Annotated[bool, typer.Option("--expanded", help="With every default written out: what orders run on.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a registered definition as YAML, which can be read as a definition file again; with --expanded, what its orders run on."""
    from orchestrator.web import views

    with _queries(session_of(ctx)) as queries:
        row = _find(queries, name, version)
    if output is Format.JSON:
        print_json(views.definition_view(row, whole=True))
    else:
        print_text(_yaml(canonical.load(row.expanded if expanded else row.raw)))


def diff(ctx: typer.Context, old: Side, new: Side, output: OutputOption = Format.TABLE) -> None:
    """Say what changes for an order of the first when it goes on with the second. Ends with 1 when anything does.

    Orders stay with the version they began with: nothing changes for them by itself.
    """
    from orchestrator.saga.compare import compare

    before, after = _side(ctx, old), _side(ctx, new)
    changes = compare(before.rulebook, after.rulebook)
    if output is Format.JSON:
        sides = {"old": before.document, "new": after.document}
        print_json({**sides, "changes": [asdict(change) for change in changes]})
    else:
        for change in changes:
            print_line(str(change))
        if not changes:
            print_line(f"Nothing changes for orders between {before.called} and {after.called}.")
        elif before.open_orders:
            note(f"Open orders on {before.called}, which stay on it: {before.open_orders}.")
    if changes:
        raise typer.Exit(ExitCode.FINDINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One of the two that are compared."""

    called: str
    rulebook: Rulebook
    #: None of a file.
    open_orders: int | None

    @property
    def document(self) -> dict[str, Any]:
        return {"definition": self.rulebook.name, "version": self.rulebook.version, "open_orders": self.open_orders}


def _side(ctx: typer.Context, given: str) -> _Side:
    from orchestrator.saga.rulebook import Rulebook

    match = _REGISTERED.fullmatch(given)
    if match is None:
        definition = read_checked(given)
        return _Side(called=given, rulebook=Rulebook(definition.expanded), open_orders=None)
    with _queries(session_of(ctx)) as queries:
        row = _find(queries, match[1], int(match[2]))
    return _Side(called=given, rulebook=Rulebook(canonical.load(row.expanded)), open_orders=row.open_orders)


def _find(queries: Queries, name: str, version: int | None) -> Registered:
    """One version, or the one that new orders get. Raises: NotFound, naming those that are there."""
    found, _ = queries.definitions()
    versions = {row.version: row for row in found if row.name == name}
    if not versions:
        raise NotFound(f"No definition {name!r} is registered: {', '.join(sorted({row.name for row in found})) or 'none'} are.")
    if version is not None and version not in versions:
        raise NotFound(f"{name} has no version {version}: {', '.join(map(str, versions))} are registered.")
    if version is not None:
        return versions[version]
    return max(versions.values(), key=lambda row: (row.is_opener, row.version))


def _yaml(document: Mapping[str, Any]) -> str:
    """YAML in the order of the language, the state that orders begin in first: the stored form is sorted by name."""
    import yaml

    ordered = _ordered(document, _models())
    if document.get("begins_in") in (states := ordered.get("states") or {}):
        ordered["states"] = {document["begins_in"]: states[document["begins_in"]], **states}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=120)


def _models() -> list[tuple[list[str], set[str]]]:
    """The words of each kind of map, in their order, and those that it always has. What fits an earlier one is no later one."""
    from orchestrator.saga import document, language, state_language

    models = (
        document.Document,
        document.Policy,
        language.Step,
        language.Parallel,
        language.Choose,
        language.Case,
        language.Repeat,
        state_language.EndState,
        state_language.AskingState,
        state_language.StateDeadline,
        state_language.Notice,
        state_language.EventUndo,
        state_language.Event,
        state_language.WaitingState,
        language.Retry,
    )
    return [
        (
            [field.alias or name for name, field in model.model_fields.items()],
            {field.alias or name for name, field in model.model_fields.items() if field.is_required()},
        )
        for model in models
    ]


def _ordered(value: Any, models: Sequence[tuple[list[str], set[str]]]) -> Any:
    if isinstance(value, list):
        return [_ordered(item, models) for item in value]
    if not isinstance(value, dict):
        return value
    known = list(dict.fromkeys(word for words, _ in models for word in words if word in value))
    fallback = [*known, *sorted(value.keys() - {*known})]
    words = next((words for words, needed in models if needed <= value.keys() <= {*words}), fallback)
    return {word: _ordered(value[word], models) for word in words if word in value}


@contextmanager
def _queries(session: Session) -> Iterator[Queries]:
    from orchestrator.store import schema
    from orchestrator.store.engine import make_engine
    from orchestrator.store.queries import Queries

    engine = make_engine(database_url(session), clock=session.now)
    try:
        schema.check(engine)
        yield Queries(engine)
    finally:
        engine.dispose()
