"""Playing a scenario: each item happens to a harness, and what comes of it is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from orchestrator.contract import Envelope
from orchestrator.errors import DefinitionError, MalformedMessage, RequestError
from orchestrator.saga.inputs import ActName
from orchestrator.saga.rulebook import Rulebook
from orchestrator.testing.expect import differences
from orchestrator.testing.harness import Harness, News
from orchestrator.testing.scenario import Act, Answer, Event, Item, Refusal, Scenario, Silence, read_scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One thing that is not as a scenario says. `line` counts from 1; `path` is the place in the document (`when[2].expect.state`)."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path or '(document)'}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a scenario came out."""

    file: str
    title: str
    failures: tuple[Failure, ...]
    #: The order as the scenario left it; None when the file could not be read as one.
    harness: Harness | None


def play_file(file: Path) -> Result | None:
    """Play a scenario file. None: the file is a definition. Never raises for what stands in a file."""
    try:
        scenario = read_scenario(file)
    except DefinitionError as error:
        failures = [Failure(file=f.file, line=f.line, path=f.path, message=f"{f.message} Fix: {f.fix}") for f in error.findings]
        return Result(file=str(file), title=file.stem, failures=tuple(failures), harness=None)
    except RequestError as error:
        failure = Failure(file=str(file), line=1, path="", message=str(error))
        return Result(file=str(file), title=file.stem, failures=(failure,), harness=None)
    return None if scenario is None else play(scenario)


def play(scenario: Scenario) -> Result:
    """Play a scenario up to the first item that does not come out as expected: what follows it would say nothing."""
    harness = Harness(Rulebook(scenario.definition.expanded))
    failures = _Play(scenario, harness).failures()
    return Result(file=scenario.file, title=scenario.title, failures=tuple(failures), harness=harness)


class _Play:
    """One playing of a scenario."""

    def __init__(self, scenario: Scenario, harness: Harness) -> None:
        self._scenario = scenario
        self._harness = harness
        #: The message of each item that is one; item 0 is the opening.
        self._messages: dict[int, Envelope] = {}

    def failures(self) -> list[Failure]:
        """What does not come out as expected, up to the first item that does not."""
        document = self._scenario.document
        items = [("given", document.given.expect), *((f"when[{index}]", item.expect) for index, item in enumerate(document.when))]
        for number, (path, expect) in enumerate(items):
            if failures := self._item(number, path, expect.given()):
                return failures
        whole = News(commands=tuple(self._harness.commands), announcements=tuple(self._harness.announcements))
        return self._compared("then", document.then.given(), whole)

    def _item(self, number: int, path: str, expected: Mapping[str, Any]) -> list[Failure]:
        """Let one item happen. What brought an input about must be `moved`, unless another verdict is expected."""
        harness = self._harness
        messages, turns = len(harness.messages), len(harness.turns)
        try:
            self._happen(number)
        except (RequestError, MalformedMessage) as error:
            return [self._failure(path, str(error))]
        except Exception as error:  # noqa: BLE001  # a bug of ours: told like a failure, so the other scenarios are played
            return [self._failure(path, f"Escrow itself failed: {type(error).__name__}: {error}")]
        if len(harness.messages) > messages:
            self._messages[number] = harness.messages[messages]
        news = harness.look()
        verdict = {"verdict": expected.get("verdict", "moved")} if len(harness.turns) > turns else {}
        return self._compared(f"{path}.expect", verdict, news) or self._compared(f"{path}.expect", expected, news)

    def _happen(self, number: int) -> None:
        document, harness = self._scenario.document, self._harness
        if number == 0:
            harness.open(document.given.data, order_id=document.given.order_id)
            return
        match document.when[number - 1]:
            case Item(reply=Answer() as answer):
                harness.reply(answer.step, answer.data)
            case Item(refusal=Refusal() as refusal):
                harness.refuse(refusal.step, refusal.data, event=refusal.event)
            case Item(undone=Answer() as answer):
                harness.undone(answer.step, answer.data)
            case Item(event=Event() as event):
                harness.event(event.type, event.data, source=event.source, command_id=event.command_id, message_id=event.id)
            case Item(silence=Silence() as silence):
                harness.silence(silence.deadline, excused=silence.excused)
            case Item(advance=str(duration)):
                harness.advance(duration)
            case Item(act=Act() as act):
                name = cast("ActName", act.act)
                harness.act(name, actor=act.actor, reason=act.reason, admin=act.admin, seq=act.seq, **act.arguments())
            case Item(sent_late=str(step)):
                harness.sent_late(step)
            case Item(duplicate=int(original)):
                self._deliver_again(original)
            case _:
                raise AssertionError("An item says one thing: the model sees to it.")

    def _deliver_again(self, original: int) -> None:
        if original not in self._messages:
            raise RequestError(f"Item {original} of `when` is no message that came before; 0 is the opening, 1 the first item.")
        self._harness.deliver(self._messages[original])

    def _compared(self, path: str, expected: Mapping[str, Any], news: News) -> list[Failure]:
        try:
            return [self._failure(f"{path}.{name}", text) for name, text in differences(self._harness, expected, news)]
        except RequestError as error:
            return [self._failure(path, str(error))]

    def _failure(self, path: str, message: str) -> Failure:
        """At the line of the path, or of its nearest parent that was written."""
        lines, place = self._scenario.lines, path
        while place and place not in lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return Failure(file=self._scenario.file, line=lines.get(place, 1), path=path, message=message)
