"""Expressions: bounded when they are compiled, and never a crash when they are evaluated."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga.expression import LENGTH_MAX, Expression, ExpressionError

NAMES: dict[str, Any] = {
    "order": {"amount": 5, "lines": [{"q": 1}, {"q": 2}], "name": "x", "big": 2**63 - 1, "f": 1.5},
    "replies": {"pay": {"id": "p-1"}},
    "event": {},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("order.amount > 3 && size(order.lines) == 2", True),
        ("order.lines.all(line, line.q > 0)", True),
        ("order.lines.map(line, line.q)", [1, 2]),
        ("replies.pay.id", "p-1"),
        ("has(order.missing)", False),
        ("has(order.missing) ? order.missing : 'none'", "none"),
        ("order['amount'] * 2", 10),
        ("order.name.matches('^x$')", True),
        ("'.all(x, .all(' == order.name", False),
    ],
)
def test_what_an_expression_says(text: str, value: object) -> None:
    """Else a guard decides otherwise than it reads."""
    assert Expression(text).value(NAMES) == value


@pytest.mark.parametrize(
    "text",
    [
        "order.missing > 3",
        "order.amount / 0",
        "order.amount + 'x'",
        "order.big + order.amount",
        "order.lines[7].q",
        "int('99999999999999999999')",
        "order.f / 0.0",
        "double('nan')",
        "timestamp('soon')",
        "timestamp('2026-01-01T00:00:00Z')",
        "order.name.size()()",
    ],
)
def test_what_cannot_be_said_is_an_error_with_a_reason(text: str) -> None:
    """Else an order's data can crash the line, or put into a command what JSON cannot hold."""
    with pytest.raises(ExpressionError, match=r"\S"):
        Expression(text).value(NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "order.lines.all(a, order.lines.all(b, true))",
        "order.lines.map(a, a.q).exists(q, q > 1)",
        "order.lines\n.all(a, true)",
        "order.lines. all (a, order.lines . exists( b, true))",
        'r"\\" == "" || order.lines.all(a, order.lines.all(b, true)) || "" == ""',
        "stranger > 1",
        "order.lines.all(stranger, other)",
        "now() > 1",
        "order.name.charAt(0) == 'x'",
        "order.amount > 3 // really",
        "order.a" + " || order.a" * 100,
    ],
)
def test_what_is_not_bounded_or_not_known_is_refused_before_it_runs(text: str) -> None:
    """Else a definition can stop the line for seconds, or name what no order has."""
    with pytest.raises(ExpressionError):
        Expression(text)


def test_a_guard_must_say_true_or_false() -> None:
    """Else any number is a yes."""
    with pytest.raises(ExpressionError, match="true or false"):
        Expression("order.amount").holds(NAMES)


@given(text=st.text(alphabet="order.replies event()[]&|!<>=+-*/%?:,'\"{}0129_al xmp\n", max_size=LENGTH_MAX + 5))
def test_any_text_is_compiled_or_refused(text: str) -> None:
    """Else a typing slip is a traceback."""
    with suppress(ExpressionError):
        Expression(text).value(NAMES)
