"""What a test expects of an order, and how it differs from what is: one vocabulary for Python tests and scenario files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypedDict

from orchestrator.errors import RequestError
from orchestrator.saga.decision import Announcement, Command
from orchestrator.saga.language import parse_duration

if TYPE_CHECKING:
    from orchestrator.testing.harness import Harness, News

#: What may be said of an expected command, beside its name.
COMMAND_KEYS: Final = ("command", "participant", "attempt", "undoes", "data")
#: Stands for a time left that does not matter.
ANY: Final = "any"


class Expected(TypedDict, total=False):
    """What may be expected. Only what is given is compared."""

    #: Of the latest input.
    verdict: str
    state: str
    status: str
    cause: str | None
    #: The beginning of the latest decision's reason.
    reason: str
    #: Exactly these, in order: names, or maps with some of `COMMAND_KEYS`.
    commands: Sequence[str | Mapping[str, Any]]
    #: Exactly these, in order, by name.
    announcements: Sequence[str]
    #: Exactly these are armed, in any order; as a map: with that time left (None: its clock is stopped). Named as for `Harness.silence`.
    deadlines: Sequence[str] | Mapping[str, str | timedelta | None]
    #: Fields of the order's data as it is by then, or STEP.FIELD of a step's reply; one that is not there is None.
    data: Mapping[str, Any]


def differences(harness: Harness, expected: Mapping[str, Any], news: News) -> list[tuple[str, str]]:
    """Each thing that is not as expected: what (`state`), and both values as a text.

    Raises: RequestError for what nobody can expect.
    """
    return [(name, text) for name, value in expected.items() for text in _compare(harness, name, value, news)]


def span(length: timedelta) -> str:
    """`1d2h`, `30s`, `-1.5s`: from the largest unit that fits to seconds."""
    if length < timedelta(0):
        return f"-{span(-length)}"
    seconds = length.total_seconds()
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{int(count)}{unit}")
    if seconds or not parts:
        parts.append(f"{seconds:g}s")
    return "".join(parts)


def _compare(harness: Harness, name: str, value: Any, news: News) -> Iterator[str]:
    match name:
        case "state" | "status" | "cause":
            yield from _differs(value, getattr(harness, name))
        case "verdict":
            because = f" ({harness.last.reason})" if harness.last.reason else ""
            yield from (text + because for text in _differs(value, harness.last.verdict))
        case "reason":
            if not (harness.last.reason or "").startswith(value):
                yield f"expected one that begins with {value!r}, found {harness.last.reason!r}"
        case "commands":
            if len(value) != len(news.commands) or not all(map(_is_command, value, news.commands)):
                yield f"expected {_plain(value)}, found {_plain([_command_view(command, value) for command in news.commands])}"
        case "announcements":
            yield from _differs(list(value), _names(news.announcements))
        case "deadlines":
            yield from _compare_deadlines(harness, deadlines_map(value))
        case "data":
            for field, wanted in value.items():
                yield from (f"{field}: {text}" for text in _differs(wanted, _field(harness, field)))
        case _:
            raise RequestError(f"{name!r} cannot be expected; {', '.join(Expected.__annotations__)} can.")


def deadlines_map(value: Any) -> dict[str, Any]:
    """Expected deadlines with the time left of each: ms, None, or `ANY`. Raises: ValueError."""
    if isinstance(value, Mapping):
        return {str(name): _left_ms(left) for name, left in value.items()}
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise ValueError("deadlines are a list of names, or a map from names to durations")
    return dict.fromkeys(value, ANY)


def _left_ms(left: Any) -> Any:
    if left is None:
        return None
    return left / timedelta(milliseconds=1) if isinstance(left, timedelta) else parse_duration(left)


def _compare_deadlines(harness: Harness, expected: Mapping[str, Any]) -> Iterator[str]:
    wanted = {harness.deadline_name(name): left for name, left in expected.items()}
    found = {name: None if left is None else left / timedelta(milliseconds=1) for name, left in harness.deadlines.items()}
    shown = {name: "stopped" if left is None else span(left) for name, left in harness.deadlines.items()}
    if missing := [name for name in wanted if name not in found]:
        yield f"{', '.join(missing)} not armed; armed: {_plain(shown)}"
    if more := [name for name in found if name not in wanted]:
        yield f"{', '.join(more)} armed too"
    for name, left in wanted.items():
        if name in found and left not in {ANY, found[name]}:
            wants = "stopped" if left is None else span(timedelta(milliseconds=left))
            yield f"{name}: expected {wants} left, found {shown[name]}"


def _is_command(expected: str | Mapping[str, Any], command: Command) -> bool:
    if isinstance(expected, str):
        return expected == command.name
    if unknown := [key for key in expected if key not in COMMAND_KEYS]:
        raise RequestError(f"{', '.join(unknown)} cannot be expected of a command; {', '.join(COMMAND_KEYS)} can.")
    return all(_of_command(command, key) == value for key, value in expected.items())


def _command_view(command: Command, expected: Sequence[str | Mapping[str, Any]]) -> Any:
    """A command as it was sent, told as fully as anything that was expected."""
    keys = {key for one in expected if isinstance(one, Mapping) for key in one}
    return {key: _of_command(command, key) for key in COMMAND_KEYS if key in {"command", *keys}} if keys else command.name


def _of_command(command: Command, key: str) -> Any:
    return command.name if key == "command" else getattr(command, key)


def _names(announcements: Sequence[Announcement]) -> list[str]:
    return [announcement.name for announcement in announcements]


def _field(harness: Harness, path: str) -> Any:
    first, *rest = path.split(".")
    found: Any = harness.order.replies.get(first) if rest else harness.order.facts.get(first)
    for part in rest:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _differs(expected: Any, found: Any) -> Iterator[str]:
    if expected != found:
        yield f"expected {_plain(expected)}, found {_plain(found)}"


def _plain(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or "none"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_plain(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value)
