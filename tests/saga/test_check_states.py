"""The static checks of the state form: one planted defect each, found where it stands, with its fix (R12, R31)."""

from __future__ import annotations

import pytest

from orchestrator.errors import Finding
from orchestrator.saga.check import check
from orchestrator.saga.definition import read
from tests.saga.listening import HOUSE_TEXT

#: A definition without a defect, each state on few lines.
TEXT = """
definition: deal
version: 1
opens_on: DealOpened
key: deal_id
patience: 30d
abort_on: [DealOff]
states:
  waiting:
    all_of: [ASigned, BSigned]
    then: choosing
    deadline: {after: 1d, then: failed_deal}
  choosing:
    at_most: 2
    on:
      Chosen: {when: event.yes, then: recording}
      Again: {then: waiting_more}
      Paid: {from: bank, undo: {command: PayBack, done_on: PaidBack, deadline: 1h}}
    deadline: {after: 1d, then: failed_deal}
  waiting_more:
    at_most: 2
    any_of: [More, Enough]
    then: choosing
    deadline: {after: 1d, then: failed_deal}
  recording:
    ask: registry
    command: Record
    done_on: Recorded
    refused_on: NotRecorded
    deadline: 1h
    pivot: true
    then: after
    on_refused: failed_deal
  after:
    on: {Closed: done}
    deadline: {after: 1d, then: telling}
  telling:
    ask: agent
    command: Tell
    done_on: Told
    deadline: 1h
    then: done
  done: {outcome: completed}
  failed_deal: {outcome: failed}
announce: {done: DealDone}
"""

#: What is written instead of what, the path of the finding, a part of its message and of its fix, and what stands in its line.
DEFECTS: dict[str, tuple[str, str, str, str, str]] = {
    "then leads nowhere": (
        "BSigned]\n    then: choosing",
        "BSigned]\n    then: chosing",
        "states.waiting.then",
        "no state chosing",
        "Name one of",
    ),
    "an event leads nowhere": (
        "Again: {then: waiting_more}",
        "Again: {then: wait}",
        "states.choosing.on.Again",
        "no state wait",
        "Name one of",
    ),
    "a deadline leads nowhere": (
        "  after:\n    on: {Closed: done}\n    deadline: {after: 1d, then: telling}",
        "  after:\n    on: {Closed: done}\n    deadline: {after: 1d, then: tell}",
        "states.after.deadline.then",
        "no state tell",
        "Name one of",
    ),
    "a refusal leads nowhere": (
        "on_refused: failed_deal",
        "on_refused: failed",
        "states.recording.on_refused",
        "no state failed",
        "Name one of",
    ),
    "an end undoes what there is not": (
        "failed_deal: {outcome: failed}",
        "failed_deal: {outcome: failed, undo: [paying]}",
        "states.failed_deal.undo",
        "nothing called paying",
        "Name some of",
    ),
    "it begins nowhere": ("states:\n", "begins_in: start\nstates:\n", "begins_in", "no state start", "Name one of"),
    "what is completed is undone": (
        "done: {outcome: completed}",
        "done: {outcome: completed, undo: all}",
        "states.done.undo",
        "not undone",
        "outcome: failed",
    ),
    "two joins": (
        "    all_of: [ASigned, BSigned]\n",
        "    all_of: [ASigned, BSigned]\n    any_of: [CSigned]\n",
        "states.waiting.any_of",
        "for all of some events, or for any",
        "Keep one",
    ),
    "a join that leads nowhere": (
        "    all_of: [ASigned, BSigned]\n    then: choosing\n",
        "    all_of: [ASigned, BSigned]\n",
        "states.waiting.all_of",
        "leads nowhere",
        "Add `then:`",
    ),
    "then without a join": (
        "  after:\n    on",
        "  after:\n    then: done\n    on",
        "states.after.then",
        "Nothing leads to it",
        "Add `all_of:`",
    ),
    "told nothing": ("  after:\n    on", "  after:\n    ask: agent\n    on", "states.after", "stand together", "Add the other"),
    "a join that leads twice": (
        "    all_of: [ASigned, BSigned]\n",
        "    all_of: [ASigned, BSigned]\n    on: {ASigned: done}\n",
        "states.waiting.on.ASigned",
        "stands in `all_of`",
        "Keep one",
    ),
    "a choice that is said twice": (
        "    any_of: [More, Enough]\n",
        "    any_of: [More, Enough]\n    on: {More: {from: bank}}\n",
        "states.waiting_more.on.More",
        "stands in `any_of`",
        "Keep one",
    ),
    "cases and more": (
        "Again: {then: waiting_more}",
        "Again: {then: waiting_more, cases: [{then: waiting_more}]}",
        "states.choosing.on.Again.cases",
        "in which case",
        "into `cases`",
    ),
    "a case behind one that always holds": (
        "Again: {then: waiting_more}",
        "Again: {cases: [{then: waiting_more}, {when: event.x, then: waiting}]}",
        "states.choosing.on.Again.cases[0]",
        "always holds",
        "Add `when:`",
    ),
    "a state that nobody comes to": (
        "  done: {out",
        "  lost: {on: {Found: done}, deadline: {after: 1d, then: done}}\n  done: {out",
        "states.lost",
        "No order comes",
        "Lead to it",
    ),
    "an order begins at its end": ("states:\n", "begins_in: done\nstates:\n", "states.done", "begin at its end", "Begin in a state"),
    "a dead end": (
        "    on: {Closed: done}\n    deadline: {after: 1d, then: telling}\n",
        "    on: {Closed: {set: {x: event.x}}}\n",
        "states.after",
        "Nothing leads out",
        "Add `on:`",
    ),
    "no end is reached": (
        "    on: {Closed: done}\n    deadline: {after: 1d, then: telling}\n",
        "    on: {Closed: after}\n    deadline: {after: 1d, then: after}\n",
        "states.after",
        "No end can be reached",
        "Lead to a state",
    ),
    "an endless wait after the pivot": (
        "    on: {Closed: done}\n    deadline: {after: 1d, then: telling}\n",
        "    on: {Closed: telling}\n",
        "states.after",
        "nothing ends this wait",
        "Add a `deadline:`",
    ),
    "a way back after the pivot": (
        "on: {Closed: done}\n",
        "on: {Closed: done, Reopened: after}\n",
        "states.after",
        "again after its pivot",
        "Lead on",
    ),
    "a circle without a count": (
        "  waiting_more:\n    at_most: 2\n",
        "  waiting_more:\n",
        "states.waiting_more",
        "again and again",
        "Add `at_most:`",
    ),
    "a second pivot": ("    done_on: Told\n", "    done_on: Told\n    pivot: true\n", "states.telling.pivot", "A second pivot", "Keep one"),
    "an event leaves the pivot": (
        "    pivot: true\n",
        "    pivot: true\n    on: {Hurried: done}\n",
        "states.recording.on.Hurried",
        "leave the pivot",
        "only the answer",
    ),
    "an event leaves a step after it": (
        "    done_on: Told\n",
        "    done_on: Told\n    on: {Hurried: done}\n",
        "states.telling.on.Hurried",
        "leave a step without its answer",
        "lead nowhere",
    ),
    "before and after the pivot": (
        "Again: {then: waiting_more}\n",
        "Again: {then: waiting_more}\n      Straight: {then: after}\n",
        "states.after",
        "some after it",
        "Make two states",
    ),
    "nothing is completed": (
        "done: {outcome: completed}",
        "done: {outcome: failed, undo: none}",
        "states",
        "No order can be completed",
        "outcome: completed",
    ),
    "undone after the pivot": (
        "on: {Closed: done}\n",
        "on: {Closed: done, Broken: failed_deal}\n",
        "states.failed_deal.undo",
        "after the pivot",
        "undo: none",
    ),
    "an event of two publishers": (
        "any_of: [More, Enough]\n    then: choosing\n",
        "on: {Paid: {from: agent, then: choosing}}\n",
        "states.waiting_more.on.Paid.from",
        "Another state says otherwise",
        "Say the same",
    ),
    "an undo of nobody": ("Paid: {from: bank, undo:", "Paid: {undo:", "states.choosing.on.Paid.undo", "Nobody is named", "Add `from:`"),
    "a step of an event's name": (
        "  telling:\n",
        "  telling:\n    step: Paid\n",
        "states.choosing.on.Paid",
        "A step is called Paid",
        "another name",
    ),
    "the id is changed": (
        "Again: {then: waiting_more}",
        "Again: {then: waiting_more, set: {deal_id: event.x}}",
        "states.choosing.on.Again.set",
        "id cannot change",
        "Remove",
    ),
    "the id is changed in a case": (
        "Again: {then: waiting_more}",
        "Again: {cases: [{then: waiting_more, set: {deal_id: event.x}}]}",
        "states.choosing.on.Again.set",
        "id cannot change",
        "Remove",
    ),
    "the id is changed by an answer": (
        "    done_on: Recorded\n",
        "    done_on: Recorded\n    set: {deal_id: event.x}\n",
        "states.recording.set.deal_id",
        "id cannot change",
        "Remove",
    ),
    "an event that opens": (
        "    on: {Closed: done}\n",
        "    on: {DealOpened: done}\n",
        "states.after.on.DealOpened",
        "also opens",
        "mean one thing",
    ),
    "an event that calls off": (
        "    any_of: [More, Enough]\n",
        "    any_of: [More, DealOff]\n",
        "states.waiting_more.on.DealOff",
        "also aborts",
        "mean one thing",
    ),
    "an event that answers": (
        "    done_on: Told\n",
        "    done_on: More\n",
        "states.telling.done_on",
        "comes from outside",
        "mean one thing",
    ),
    "an effect that stays": (
        "  telling:\n",
        "  asking: {ask: p, command: Ask, done_on: Asked, deadline: 1s, then: choosing}\n  telling:\n",
        "states.asking",
        "cannot be undone",
        "Add `undo:`",
    ),
    "a state that Escrow has": (
        "  telling:\n",
        "  compensated:\n    on: {X: done}\n    deadline: {after: 1d, then: done}\n  telling:\n",
        "states.compensated.state",
        "itself uses",
        "another name",
    ),
    "a name of nobody": (
        "    ask: agent\n    command: Tell",
        "    ask: outside\n    command: Tell",
        "states.telling.ask",
        "stands for anyone",
        "another name",
    ),
    "a notice to nobody": (
        "  after:\n    on",
        "  after:\n    ask: operator\n    command: Look\n    on",
        "states.after",
        "stands for a human",
        "another name",
    ),
    "an end that is none": ("announce: {done:", "announce: {completed:", "announce.completed", "no end of an order", "Announce done"),
    "a policy that forgets money": (
        "announce:",
        "policies: [{event: Paid, late: quarantine}]\nannounce:",
        "policies[0].late",
        "would not be undone",
        "Remove this",
    ),
}


def findings(text: str) -> list[Finding]:
    """What the check finds."""
    return check(read(text, "deal.yaml"))


def test_the_definition_without_a_defect_is_clean() -> None:
    """Else the cases below find what was there before."""
    assert findings(TEXT) == []
    assert findings(HOUSE_TEXT) == []


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found_where_it_stands(name: str) -> None:
    """Else a definition with this defect starts, and orders run into it."""
    old, new, path, word, fix = DEFECTS[name]
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    found = [finding for finding in findings(text) if finding.path == path and word in finding.message]
    assert found, findings(text)
    assert fix in found[0].fix
    line = text.splitlines()[found[0].line - 1]
    words = [part.partition("[")[0] for part in path.split(".")]
    assert any(part in line for part in words[-1:] + words[1:2]), (line, path)


def test_states_that_last_longer_than_patience_are_found() -> None:
    """Else orders run out of patience in a state that has time left (R7)."""
    text = TEXT.replace("      Again: {then: waiting_more}\n", "").replace("patience: 30d", "patience: 25h")
    start, end = text.index("  waiting_more:"), text.index("  recording:")
    [finding] = findings(text[:start] + text[end:])
    assert (finding.path, finding.line) == ("patience", 6)
    assert finding.message == "The states before the pivot can take 172800 s, and patience is 90000 s."
    assert "172800s" in finding.fix


def test_names_that_lead_nowhere_are_told_before_what_follows_from_them() -> None:
    """Else one slip of the pen is told as a dozen findings."""
    assert len(findings(TEXT.replace("on: {Closed: done}", "on: {Closed: don}"))) == 1
