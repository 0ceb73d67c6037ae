"""How busy knowledge bases are.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-25 02:14:00.000000
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agenthub.storage.sql.tables import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables as this release wants them."""
    op.create_table(
        "kb_heat",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("tenant_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("signature", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("dimension", sa.BigInteger(), nullable=False),
        sa.Column("questions", sa.LargeBinary(), nullable=False),
        sa.Column("cleared_at", Instant(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_heat"),
    )
    with op.batch_alter_table("kb_heat", schema=None) as batch_op:
        batch_op.create_index("ix_kb_heat_rank_id", ["rank", "id"], unique=False)


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("kb_heat", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_heat_rank_id")

    op.drop_table("kb_heat")
