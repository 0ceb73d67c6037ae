"""FAQs as documents of a kind of their own; the history of questions; evaluations.

Revision ID: 0007
Revises: 0005
Create Date: 2026-11-25 02:10:00.000000
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agenthub.storage.sql.tables import Instant

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TABLES = ("documents", "document_history")
NEW = ("question_key", "category", "priority", "answer")
INDEX = "ix_documents_tenant_id_knowledge_base_id_question_key"


def upgrade() -> None:
    """Make the tables as this release wants them."""
    for table in TABLES:  # plain additions: what is there stays where it is
        op.add_column(table, sa.Column("kind", TEXT, nullable=False, server_default="document"))
        op.add_column(table, sa.Column("question_key", TEXT, nullable=True))
        op.add_column(table, sa.Column("category", TEXT, nullable=True))
        op.add_column(table, sa.Column("priority", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("answer", TEXT, nullable=True))
    op.create_index(INDEX, "documents", ["tenant_id", "knowledge_base_id", "question_key"], unique=False)
    op.create_table(
        "kb_evaluations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("signature", TEXT, nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("k", sa.BigInteger(), nullable=False),
        sa.Column("question_count", sa.BigInteger(), nullable=False),
        sa.Column("ndcg", sa.Double(), nullable=False),
        sa.Column("recall", sa.Double(), nullable=False),
        sa.Column("mrr", sa.Double(), nullable=False),
        sa.Column("results", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_evaluations"),
    )
    with op.batch_alter_table("kb_evaluations", schema=None) as batch_op:
        batch_op.create_index("ix_kb_evaluations_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)

    op.create_table(
        "kb_questions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("question", TEXT, nullable=False),
        sa.Column("expected_document_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("note", TEXT, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_questions"),
    )
    with op.batch_alter_table("kb_questions", schema=None) as batch_op:
        batch_op.create_index("ix_kb_questions_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)

    op.create_table(
        "rag_queries",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("question", TEXT, nullable=False),
        sa.Column("answer", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("model", TEXT, nullable=True),
        sa.Column("finish_reason", TEXT, nullable=True),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=True),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("agent_id", TEXT, nullable=True),
        sa.Column("knowledge_base_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("generations", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sources", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("citations", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rag_queries"),
    )
    with op.batch_alter_table("rag_queries", schema=None) as batch_op:
        batch_op.create_index("ix_rag_queries_expires_at", ["expires_at"], unique=False)
        batch_op.create_index("ix_rag_queries_tenant_id_agent_id_id", ["tenant_id", "agent_id", "id"], unique=False)
        batch_op.create_index("ix_rag_queries_tenant_id_id", ["tenant_id", "id"], unique=False)
        batch_op.create_index("ix_rag_queries_tenant_id_kind_id", ["tenant_id", "kind", "id"], unique=False)


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("rag_queries", schema=None) as batch_op:
        batch_op.drop_index("ix_rag_queries_tenant_id_kind_id")
        batch_op.drop_index("ix_rag_queries_tenant_id_id")
        batch_op.drop_index("ix_rag_queries_tenant_id_agent_id_id")
        batch_op.drop_index("ix_rag_queries_expires_at")

    op.drop_table("rag_queries")
    with op.batch_alter_table("kb_questions", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_questions_tenant_id_knowledge_base_id_id")

    op.drop_table("kb_questions")
    with op.batch_alter_table("kb_evaluations", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_evaluations_tenant_id_knowledge_base_id_id")

    op.drop_table("kb_evaluations")
    op.drop_index(INDEX, "documents")
    for table in TABLES:
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in ("kind", *NEW):
                batch_op.drop_column(column)
