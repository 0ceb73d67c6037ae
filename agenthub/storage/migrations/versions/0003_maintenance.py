"""maintenance.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-23 06:26:29.564763
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agenthub.storage.sql.tables import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables as this release wants them."""
    op.create_table(
        "kb_erasures",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("tenant_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("knowledge_base_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("document_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("state", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("originals", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("requested_by", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True),
        sa.Column("requested_at", Instant(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("completed_at", Instant(), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_erasures"),
    )
    with op.batch_alter_table("kb_erasures", schema=None) as batch_op:
        batch_op.create_index("ix_kb_erasures_state_id", ["state", "id"], unique=False)
        batch_op.create_index("ix_kb_erasures_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)

    op.create_table(
        "kb_garbage",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("tenant_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("knowledge_base_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("path", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("reason", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("marked_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_garbage"),
    )
    with op.batch_alter_table("kb_garbage", schema=None) as batch_op:
        batch_op.create_index("ix_kb_garbage_knowledge_base_id_id", ["knowledge_base_id", "id"], unique=False)
        batch_op.create_index("ix_kb_garbage_knowledge_base_id_marked_at", ["knowledge_base_id", "marked_at"], unique=False)

    op.create_table(
        "kb_leases",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("tenant_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("knowledge_base_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("fence", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_leases"),
    )
    with op.batch_alter_table("kb_leases", schema=None) as batch_op:
        batch_op.create_index("ix_kb_leases_expires_at", ["expires_at"], unique=False)


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("kb_leases", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_leases_expires_at")

    op.drop_table("kb_leases")
    with op.batch_alter_table("kb_garbage", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_garbage_knowledge_base_id_marked_at")
        batch_op.drop_index("ix_kb_garbage_knowledge_base_id_id")

    op.drop_table("kb_garbage")
    with op.batch_alter_table("kb_erasures", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_erasures_tenant_id_knowledge_base_id_id")
        batch_op.drop_index("ix_kb_erasures_state_id")

    op.drop_table("kb_erasures")
