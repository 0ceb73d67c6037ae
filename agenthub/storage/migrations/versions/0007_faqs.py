"""Questions with answers, as documents of a kind of their own.

Revision ID: 0007
Revises: 0004
Create Date: 2026-11-25 02:10:00.000000
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0004"
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


def downgrade() -> None:
    """Undo it."""
    op.drop_index(INDEX, "documents")
    for table in TABLES:
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in ("kind", *NEW):
                batch_op.drop_column(column)
