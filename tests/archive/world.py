"""A world with everything that an archive shows, and the store that a backup makes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror.config import load
from mirror.simulator import Simulator, World
from mirror.simulator.switches import Switches
from mirror.simulator.world.discussions import Comment
from mirror.simulator.world.sample import SCOPES, populate
from tests.e2e.helpers import write_config
from tests.place import Place

_BASE = """\
import decimal


def total(lines):
    # The sum of an order, in cents.
    result = 0
    for line in lines:
        result += line.price * line.count
    return result


def discount(order, code):
    if code == "SPRING":
        return order.total * 0.9
    return order.total


def tax(amount, rate):
    return amount * rate
"""
_CHANGED = _BASE.replace(
    "        return order.total * 0.9\n",
    '        return (order.total * decimal.Decimal("0.9")).quantize(decimal.Decimal(1))\n',
).replace(
    "    return amount * rate\n",
    '    if rate < 0:\n        raise ValueError("a tax rate is not negative")\n    return amount * rate\n',
)
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060"
    "00000005000157a5e0d10000000049454e44ae426082"
)


def furnish(world: World) -> None:
    """A review as people have them, issues with attachments, builds that fail, and a snippet."""
    ann, bob, eve = (world.users[f"{name}@acme.example"] for name in ("ann", "bob", "eve"))
    acme = world.workspaces["acme"]
    api = acme.repositories["api"]
    with world.at(datetime(2026, 10, 12, 8, 30, tzinfo=UTC)):
        base = api.commit(
            "main", {"src/prices.py": _BASE.encode()}, "Prices\n", author=("Bob Baker", bob.email)
        )
        api.commit(
            "fix/money", {"src/prices.py": _CHANGED.encode()},
            "Count money in decimals\n\nFloats lose cents.\n",
            author=("Eve Eng", eve.email), parents=[base],
        )  # fmt: skip
        pull = api.open_pull_request(
            source="fix/money", title="Count money in decimals", author=eve,
            description="Floats lose cents: `0.1 + 0.2` is not `0.3`.\n\n"
            "- discounts are rounded **once**, at the end\n- a negative tax rate is refused\n\n"
            "See [the report](https://docs.acme.example/rounding) for what it cost us.",
        )  # fmt: skip
        pull.reviewers += [ann, bob]
    start = datetime(2026, 10, 12, 9, 0, tzinfo=UTC)

    def later(minutes: int, do: Callable[[], object]) -> None:
        with world.at(start + timedelta(minutes=minutes)):
            do()

    with world.at(start):
        inline = pull.comment(
            "Should this be `ROUND_HALF_EVEN`? The accountants asked for it last year.",
            author=bob, inline={"path": "src/prices.py", "from": None, "to": 14},
        )  # fmt: skip
    with world.at(start + timedelta(minutes=12)):
        reply = pull.comment(
            "It is the default of `decimal`:\n\n```python\n"
            ">>> decimal.getcontext().rounding\n'ROUND_HALF_EVEN'\n```",
            author=eve, parent=inline,
        )  # fmt: skip
        pull.comment("Good. A test for it would be kind.", author=bob, parent=reply)
        pull.add_task("Add a test for rounding at .5", author=bob, comment=inline)
    later(
        50,
        lambda: pull.push(
            {"tests/test_prices.py": b"def test_half():\n    assert True\n"}, "Test rounding\n"
        ),
    )
    with world.at(start + timedelta(minutes=55)):
        pull.tasks[0].resolved = True
        pull.resolve(inline, by=bob)
        removed = {"path": "src/prices.py", "from": 14, "to": None}
        pull.comment("This line cost us 312 € in March.", author=ann, inline=removed)
        pull.comment("Ship it once the build is green.", author=ann)
        pull.add_task("Tell the accountants", author=ann)
        pull.add_status("build-17")
    later(70, lambda: pull.approve(bob))
    with world.at(start + timedelta(minutes=80)):
        built = api.add_pipeline(
            branch="fix/money",
            steps=[("test", b"\x1b[32mcollected 214 items\x1b[0m\n214 passed in 9.31s\n"),
                   ("package", b"Building wheel for acme-api\nerror: no space left on device\n")],
            result="FAILED",
        )  # fmt: skip
        built.steps[0].tests = {"test_half": None, "test_negative_rate": "a tax rate is not negative"}
        issue = api.add_issue(
            "Invoices are one cent off", author=ann,
            content="Invoice **2026-118** says 19.99, we charged 20.00.",
            comments=["The same with 2026-121."],
        )  # fmt: skip
        issue.attach("invoice.png", PICTURE)
        issue.attach("ledger.csv", b"id,cents\n118,1999\n")
        issue.set_state("resolved", author=eve)
        api.add_issue("Dark mode for the back office", author=bob)
        api.comment_on_commit(base, "This is where it began.", author=ann)
    snippet = acme.add_snippet(
        "Reset a stuck order", {"reset.sh": b'acmectl orders reset "$1"\n'}, author=bob
    )
    snippet.comments.append(Comment(world.number(), "Ask in the channel first.", eve, world.now()))


async def stored(folder: Path, more: Callable[[World], None] = furnish) -> tuple[World, Path]:
    """The world with `more` in it, and the store of one backup of it."""
    world = World(folder / "upstream")
    populate(world)
    more(world)
    token = world.add_workspace_access_token("acme", SCOPES | {"issue", "wiki", "snippet"})
    with Simulator(world, switches=Switches(issue_tracker=True)) as simulator:
        place = Place(folder, simulator, load(write_config(folder, simulator, token)))
        run = await place.run()
        assert run.exit_code in (0, 3), run.exit_code
    return world, place.config.store
