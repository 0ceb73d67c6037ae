"""Where documents come from, and what makes two uploads the same.

Revision ID: 0006
Revises: 0009
Create Date: 2026-11-25 02:13:24.025731
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables as this release wants them."""
    with op.batch_alter_table("document_history", schema=None) as batch_op:
        batch_op.add_column(sa.Column("source", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True))
        batch_op.add_column(sa.Column("content_key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True))
        batch_op.add_column(sa.Column("origin", sa.JSON(none_as_null=True), nullable=True))

    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.add_column(sa.Column("source", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True))
        batch_op.add_column(sa.Column("content_key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True))
        batch_op.add_column(sa.Column("origin", sa.JSON(none_as_null=True), nullable=True))
        batch_op.create_unique_constraint("uq_documents_knowledge_base_id_content_key", ["knowledge_base_id", "content_key"])
        batch_op.create_unique_constraint("uq_documents_knowledge_base_id_source", ["knowledge_base_id", "source"])


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.drop_constraint("uq_documents_knowledge_base_id_source", type_="unique")
        batch_op.drop_constraint("uq_documents_knowledge_base_id_content_key", type_="unique")
        batch_op.drop_column("origin")
        batch_op.drop_column("content_key")
        batch_op.drop_column("source")

    with op.batch_alter_table("document_history", schema=None) as batch_op:
        batch_op.drop_column("origin")
        batch_op.drop_column("content_key")
        batch_op.drop_column("source")
