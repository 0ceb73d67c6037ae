"""Re-embeddings, the segments of their shadows, and who holds a knowledge base.

Revision ID: 0013
Revises: 0012
Create Date: 2026-11-25 21:42:02.554836
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agenthub.storage.sql.tables import Instant

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables as this release wants them."""
    op.create_table(
        "kb_mirrors",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("tenant_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("knowledge_base_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("reembedding_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("source_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("restored_generation", sa.BigInteger(), nullable=False),
        sa.Column("first_row", sa.BigInteger(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("segment_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("header_name", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("header_length_bytes", sa.BigInteger(), nullable=False),
        sa.Column("header_sha256", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("covers_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_mirrors"),
    )
    with op.batch_alter_table("kb_mirrors", schema=None) as batch_op:
        batch_op.create_index("ix_kb_mirrors_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)
        batch_op.create_index("ix_kb_mirrors_tenant_id_reembedding_id_id", ["tenant_id", "reembedding_id", "id"], unique=False)

    op.create_table(
        "kb_reembeddings",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("tenant_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("knowledge_base_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("open_key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True),
        sa.Column("state", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("job_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("embedding_model", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("signature", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("dimension", sa.BigInteger(), nullable=False),
        sa.Column("former_model", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("former_signature", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("former_dimension", sa.BigInteger(), nullable=False),
        sa.Column("auto_switch", sa.Boolean(), nullable=False),
        sa.Column("chunks_per_second", sa.BigInteger(), nullable=True),
        sa.Column("switched_generation", sa.BigInteger(), nullable=True),
        sa.Column("pin_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True),
        sa.Column("rolls_back_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True),
        sa.Column("embedded_count", sa.BigInteger(), nullable=False),
        sa.Column("reused_count", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_reembeddings"),
        sa.UniqueConstraint("tenant_id", "open_key", name="uq_kb_reembeddings_tenant_id_open_key"),
    )
    with op.batch_alter_table("kb_reembeddings", schema=None) as batch_op:
        batch_op.create_index("ix_kb_reembeddings_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)
        batch_op.create_index(
            "ix_kb_reembeddings_tenant_id_knowledge_base_id_switche_9a77233c",
            ["tenant_id", "knowledge_base_id", "switched_generation"],
            unique=False,
        )

    with op.batch_alter_table("knowledge_bases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("held_until", Instant(), nullable=True))


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("knowledge_bases", schema=None) as batch_op:
        batch_op.drop_column("held_until")

    with op.batch_alter_table("kb_reembeddings", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_reembeddings_tenant_id_knowledge_base_id_switche_9a77233c")
        batch_op.drop_index("ix_kb_reembeddings_tenant_id_knowledge_base_id_id")

    op.drop_table("kb_reembeddings")
    with op.batch_alter_table("kb_mirrors", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_mirrors_tenant_id_reembedding_id_id")
        batch_op.drop_index("ix_kb_mirrors_tenant_id_knowledge_base_id_id")

    op.drop_table("kb_mirrors")
