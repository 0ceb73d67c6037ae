"""Kept answers about who calls: never older than the last acknowledged write, whatever the cache does; and worth keeping."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agenthub.cache.policy import HOT
from agenthub.core.errors import OutcomeUnknown
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.repositories.hot_reads import _QUESTIONS, SKEW_SECONDS, HotReads
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.platform.organizations import Organization, OrganizationRepository
from agenthub.repositories.platform.principals import Principals
from agenthub.repositories.platform.sessions import SESSIONS, IssuedSession, SessionRepository, new_session, sessions_ended
from agenthub.repositories.platform.users import User, UserRepository, new_user
from agenthub.storage.contract import ColumnType, Delete, Question, Row, Update, Write
from agenthub.storage.memory import MemoryStorage
from agenthub.storage.queries.principals import API_KEY_PRINCIPAL, SESSION_PRINCIPAL, with_row
from tests.repositories.knowledge.test_heat import base

BASES = KnowledgeBaseRepository.table


class Hand:
    """A clock that is moved by hand and notes how long writers waited."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 25, tzinfo=UTC)
        self.waited_seconds = 0.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def pause(self, seconds: float) -> None:
        self.waited_seconds += seconds
        self.move(seconds)


class Database(MemoryStorage):
    """Counts questions, and does something between an answer and its way back where a test says so."""

    def __init__(self, hand: Hand) -> None:
        super().__init__(hand)
        self.asked = 0
        self.meanwhile: Callable[[], None] | None = None

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        self.asked += 1
        rows = super().ask(question, parameters)
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        return rows


@dataclass
class Server:
    """A cache server: entries that expire, and whether it answers whom."""

    hand: Hand
    kept: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    chance: random.Random | None = None

    def get_many(self, names: Sequence[str]) -> dict[str, bytes]:
        if self._fails():
            return {}
        return {name: self.kept[name][0] for name in names if name in self.kept and self.kept[name][1] > self.hand.now()}

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        for name, value in items.items():
            if not self._fails():
                self.kept[name] = value, self.hand.now() + timedelta(seconds=ttl_seconds)

    def _fails(self) -> bool:
        return self.chance is not None and self.chance.random() < 0.2


class Away(Server):
    """What a process sees that can't reach the server."""

    def _fails(self) -> bool:
        return True


@dataclass
class Deployment:
    """Two replicas over one database and one cache server, and somebody who is signed in."""

    hand: Hand
    database: Database
    server: Server
    replicas: tuple[HotReads, HotReads]
    user: User
    session: IssuedSession

    def who(self, replica: int = 0) -> str | None:
        """The role of whoever has the session's token, as that replica says."""
        found = Principals(self.replicas[replica], self.hand).find(self.session.token)
        return found.role if found else None

    def counted(self, ask: Callable[[], object]) -> int:
        """How often the database is asked by that."""
        before = self.database.asked
        ask()
        return self.database.asked - before


@pytest.fixture
def deployed() -> Deployment:
    hand = Hand()
    database, server = Database(hand), Server(hand)
    replicas = HotReads(database, lambda: server, hand.now, hand.pause), HotReads(database, lambda: server, hand.now, hand.pause)
    tenant = TenantId(new_id())
    OrganizationRepository(database).add(Organization(tenant, "Engines", "active", None, hand.now(), hand.now()))
    user = UserRepository(database).add(new_user(tenant, "ada@example.org", None, "admin", "$hash", hand.now()))
    UserRepository(database).add(new_user(tenant, "bob@example.org", None, "owner", "$hash", hand.now()))
    session = SessionRepository(database).start(new_session(tenant, user.id, hand.now()))
    return Deployment(hand, database, server, replicas, user, session)


def test_what_one_replica_asked_neither_asks_again_for_ten_seconds(deployed: Deployment) -> None:
    assert deployed.counted(deployed.who) == 1
    for _ in range(3):
        assert deployed.counted(lambda: deployed.who(1)) == 0
        deployed.hand.move(3)
    assert deployed.who(1) == "admin"
    deployed.hand.move(2)
    assert deployed.counted(deployed.who) == 1


def ended(deployed: Deployment, replica: HotReads) -> None:
    SessionRepository(replica).end(deployed.user.tenant_id, deployed.user.id, deployed.session.session.id)


def suspended(deployed: Deployment, replica: HotReads) -> None:
    UserRepository(replica).change(deployed.user.tenant_id, deployed.user.id, {"status": "suspended"})


def shut(deployed: Deployment, replica: HotReads) -> None:
    OrganizationRepository(replica).update(deployed.user.tenant_id, deployed.user.tenant_id, {"status": "suspended"})


def signed_out_everywhere(deployed: Deployment, replica: HotReads) -> None:
    replica.commit([sessions_ended(deployed.user.tenant_id, deployed.user.id)])


@pytest.mark.parametrize("end", [ended, suspended, shut, signed_out_everywhere])
def test_an_end_holds_at_the_next_request_everywhere(deployed: Deployment, end: Callable[[Deployment, HotReads], None]) -> None:
    assert [deployed.who(0), deployed.who(1)] == ["admin", "admin"]
    end(deployed, deployed.replicas[1])
    assert [deployed.who(0), deployed.who(1)] == [None, None]
    assert deployed.hand.waited_seconds == 0


def test_a_changed_role_counts_at_once(deployed: Deployment) -> None:
    assert deployed.who() == "admin"
    UserRepository(deployed.replicas[1]).change(deployed.user.tenant_id, deployed.user.id, {"role": "viewer"})
    assert deployed.who() == "viewer"


def test_an_answer_that_was_on_its_way_is_not_used(deployed: Deployment) -> None:
    """Asked before the sign-out, kept after it."""
    deployed.database.meanwhile = lambda: ended(deployed, deployed.replicas[1])
    assert deployed.who(0) == "admin", "it was so when it was asked"
    assert [deployed.who(0), deployed.who(1)] == [None, None]


def test_a_writer_that_can_not_tell_waits_until_nothing_kept_is_left(deployed: Deployment) -> None:
    assert deployed.who(0) == "admin"
    away = HotReads(deployed.database, lambda: Away(deployed.hand), deployed.hand.now, deployed.hand.pause)
    ended(deployed, away)
    assert deployed.hand.waited_seconds == HOT.ttl_seconds + SKEW_SECONDS
    assert deployed.who(0) is None


def test_what_is_kept_late_is_as_old_as_the_question(deployed: Deployment) -> None:
    """A process that stood still between the database's answer and its keeping: the writer that waited must not be undone."""
    away = HotReads(deployed.database, lambda: Away(deployed.hand), deployed.hand.now, deployed.hand.pause)
    deployed.database.meanwhile = lambda: ended(deployed, away)
    assert deployed.who(0) == "admin"
    assert deployed.who(0) is None


def test_a_server_that_lost_everything_brings_nothing_old_back(deployed: Deployment) -> None:
    assert deployed.who() == "admin"
    before = dict(deployed.server.kept)
    deployed.server.kept.clear()
    assert deployed.who() == "admin"
    deployed.server.kept.update({name: entry for name, entry in before.items() if name.startswith("answer/")})
    assert deployed.counted(deployed.who) == 1, "an answer under lost marks"
    for junk in (b"", b"{", b'{"at":"2026-11-25T00:00:00Z","marks":{},"rows":[]}'):
        name = next(name for name in deployed.server.kept if name.startswith("answer/"))
        deployed.server.kept[name] = junk, deployed.hand.now() + timedelta(seconds=9)
        assert deployed.who() == "admin"


def test_an_outcome_nobody_knows_is_told_too(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert deployed.who() == "admin"
    real = deployed.database.commit

    def lost(writes: Sequence[Write]) -> list[Row | None]:
        real(writes)
        raise OutcomeUnknown("the answer was lost")

    monkeypatch.setattr(deployed.database, "commit", lost)
    with pytest.raises(OutcomeUnknown):
        ended(deployed, deployed.replicas[1])
    assert deployed.who() is None


def test_use_is_noted_once_a_minute_and_forgets_nothing(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed.who()
    deployed.hand.move(61)
    assert deployed.who(0) == "admin"
    assert deployed.database.get(SESSIONS, deployed.user.tenant_id, deployed.session.session.id) is not None
    seen = SessionRepository(deployed.database).get(deployed.user.tenant_id, deployed.session.session.id)
    assert seen.last_seen_at == deployed.hand.now()
    commits: list[object] = []
    real = deployed.database.commit

    def noted(writes: Sequence[Write]) -> list[Row | None]:
        commits.append(writes)
        return real(writes)

    monkeypatch.setattr(deployed.database, "commit", noted)
    assert deployed.counted(lambda: [deployed.who(1) for _ in range(5)]) == 0
    assert commits == [], "whoever asked the database noted it"


def test_what_ends_soon_is_not_kept(deployed: Deployment) -> None:
    soon = deployed.hand.now() + timedelta(seconds=59)
    change = Update(SESSIONS, deployed.user.tenant_id, deployed.session.session.id, {"idle_expires_at": soon})
    deployed.database.commit([change])
    for _ in range(2):
        assert deployed.counted(deployed.who) == 1


def test_nobody_is_not_kept(deployed: Deployment) -> None:
    """A stranger's token fills no cache, and one that becomes somebody's is so at once."""
    ended(deployed, deployed.replicas[0])
    assert deployed.counted(deployed.who) == 1
    SessionRepository(deployed.replicas[0]).start(deployed.session)
    assert deployed.who() == "admin"


def test_a_knowledge_bases_row_is_as_new_as_its_last_commit_and_no_other_costs_it(deployed: Deployment) -> None:
    mine, other = (row_of_base(deployed) for _ in range(2))

    def generation() -> int | None:
        _, row = Principals(deployed.replicas[0], deployed.hand).find_with(deployed.session.token, BASES, mine)
        return row["generation"] if row else None

    def move(key: str, generation: int) -> None:
        deployed.replicas[1].commit([Update(BASES, deployed.user.tenant_id, key, {"generation": generation})])

    assert generation() == 1
    move(mine, 2)
    assert generation() == 2
    move(other, 9)
    assert deployed.counted(generation) == 0
    deployed.replicas[1].commit([Delete(BASES, deployed.user.tenant_id, mine)])
    assert generation() is None
    assert deployed.counted(generation) == 1, "what is not there is not kept"


def row_of_base(deployed: Deployment) -> str:
    made = base()
    row = {name: getattr(made, name) for name in (column.name for column in BASES.columns)}
    key = str(row["id"])
    repository = KnowledgeBaseRepository(deployed.database)
    repository.create(repository.from_row(row | {"tenant_id": deployed.user.tenant_id, "name_key": key}))
    return key


def test_times_and_lists_come_back_as_they_were(deployed: Deployment) -> None:
    key = row_of_base(deployed)
    question, parameters = with_row(SESSION_PRINCIPAL, BASES), {"secret_hash": deployed.session.session.token_hash, "row_key": key}
    [first], [second] = (deployed.replicas[0].ask(question, parameters) for _ in range(2))
    assert {name: value for name, value in second.items() if name != "last_seen_at"} == {
        name: first[name] for name in second if name != "last_seen_at"
    }
    assert set(first) == set(second)
    kinds = {column.type for kind in (SESSION_PRINCIPAL, API_KEY_PRINCIPAL) for column in with_row(kind, BASES).columns}
    assert ColumnType.BYTES not in kinds, "those would need a form of their own"
    assert len(_QUESTIONS) == 4


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_cache_loses_no_acknowledged_write_is_missed(deployed: Deployment, seed: int) -> None:
    """Two replicas, changes on either, answers that overtake one another, and a server that fails every fifth time."""
    chance = random.Random(seed)
    deployed.server.chance = chance
    roles = ("admin", "viewer", "devops")

    def change() -> None:
        UserRepository(deployed.replicas[chance.randrange(2)]).change(
            deployed.user.tenant_id, deployed.user.id, {"role": chance.choice(roles)}
        )

    for _ in range(60):
        deployed.hand.move(chance.choice((0.0, 0.5, 4.0)))
        if chance.random() < 0.2:
            change()
        if chance.random() < 0.1:
            deployed.database.meanwhile = change
        deployed.who(chance.randrange(2))  # a change may come between its question and its answer
        deployed.database.meanwhile = None
        current = UserRepository(deployed.database).get(deployed.user.tenant_id, deployed.user.id).role
        assert [deployed.who(0), deployed.who(1)] == [current, current]
