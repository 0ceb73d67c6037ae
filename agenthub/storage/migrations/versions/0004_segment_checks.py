"""The looks at segments.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-23 06:33:54.015169
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agenthub.storage.sql.tables import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables as this release wants them."""
    op.create_table(
        "kb_segment_checks",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("tenant_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("knowledge_base_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("segment_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("condition", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("damages", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_segment_checks"),
    )
    with op.batch_alter_table("kb_segment_checks", schema=None) as batch_op:
        batch_op.create_index("ix_kb_segment_checks_knowledge_base_id_condition", ["knowledge_base_id", "condition"], unique=False)
        batch_op.create_index("ix_kb_segment_checks_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("kb_segment_checks", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_segment_checks_tenant_id_knowledge_base_id_id")
        batch_op.drop_index("ix_kb_segment_checks_knowledge_base_id_condition")

    op.drop_table("kb_segment_checks")
