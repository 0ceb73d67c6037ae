"""Every table there is: what migrations are made and checked against."""

from __future__ import annotations

from typing import Final

from agenthub.repositories.activity import ACTIVITY_EVENTS
from agenthub.repositories.agents.agents import AgentRepository, AgentVersionRepository
from agenthub.repositories.knowledge.collecting import GARBAGE
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, DocumentRepository
from agenthub.repositories.knowledge.erasing import ErasureRepository
from agenthub.repositories.knowledge.evaluations import EvaluationRepository, QuestionRepository
from agenthub.repositories.knowledge.heat import HeatRepository
from agenthub.repositories.knowledge.job_queue import TURNS
from agenthub.repositories.knowledge.jobs import JobItemRepository, JobRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.leases import LEASES
from agenthub.repositories.knowledge.ledger import INTENTS, OPERATIONS, PINS, TOMBSTONES
from agenthub.repositories.knowledge.rag_queries import RagQueryRepository
from agenthub.repositories.knowledge.reembeddings import MIRRORS, ReembeddingRepository
from agenthub.repositories.knowledge.segment_checks import SEGMENT_CHECKS
from agenthub.repositories.operations import APPLIED_OPERATIONS, AUDIT_EVENTS
from agenthub.repositories.platform.api_keys import API_KEYS
from agenthub.repositories.platform.deployment_secrets import DEPLOYMENT_SECRETS
from agenthub.repositories.platform.login_throttle import LOGIN_COUNTERS
from agenthub.repositories.platform.organizations import ORGANIZATIONS
from agenthub.repositories.platform.sessions import SESSIONS
from agenthub.repositories.platform.users import USERS
from agenthub.storage.gate import CHANGES, GATE
from agenthub.storage.moving.tables import MOVES
from agenthub.storage.warehouse.feed import FEEDS

MOVED_TABLES: Final = (
    ORGANIZATIONS,
    USERS,
    SESSIONS,
    API_KEYS,
    LOGIN_COUNTERS,
    DEPLOYMENT_SECRETS,
    APPLIED_OPERATIONS,
    AUDIT_EVENTS,
    ACTIVITY_EVENTS,
    KnowledgeBaseRepository.table,
    DocumentRepository.table,
    DOCUMENT_HISTORY,
    OPERATIONS,
    INTENTS,
    TOMBSTONES,
    PINS,
    SEGMENT_CHECKS,
    LEASES,
    GARBAGE,
    ErasureRepository.table,
    HeatRepository.table,
    RagQueryRepository.table,
    QuestionRepository.table,
    EvaluationRepository.table,
    JobRepository.table,
    JobItemRepository.table,
    TURNS,
    ReembeddingRepository.table,
    MIRRORS,
    AgentRepository.table,
    AgentVersionRepository.table,
)
"""What a copy, a backup and a switch-over carry: every table that services write."""

OWN_TABLES: Final = (GATE, CHANGES, MOVES, FEEDS)
"""What storage keeps about itself; it stays where it is."""

TABLES: Final = (*MOVED_TABLES, *OWN_TABLES)
