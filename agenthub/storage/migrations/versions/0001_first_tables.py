"""The first tables: organizations, users, credentials, audit, agents and knowledge bases.

Revision ID: 0001
Revises:
Create Date: 2026-11-23 05:37:47.857385
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agenthub.storage.sql.tables import Instant

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables as this release wants them."""
    op.create_table(
        "agent_versions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("agent_id", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("system_prompt", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=True),
        sa.Column("knowledge_base_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("note", TEXT, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_versions"),
        sa.UniqueConstraint("tenant_id", "agent_id", "number", name="uq_agent_versions_tenant_id_agent_id_number"),
    )
    with op.batch_alter_table("agent_versions", schema=None) as batch_op:
        batch_op.create_index("ix_agent_versions_tenant_id_agent_id_number_id", ["tenant_id", "agent_id", "number", "id"], unique=False)

    op.create_table(
        "agents",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("system_prompt", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=True),
        sa.Column("knowledge_base_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("published_version", sa.BigInteger(), nullable=True),
        sa.Column("latest_version", sa.BigInteger(), nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
    )
    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.create_index("ix_agents_tenant_id_id", ["tenant_id", "id"], unique=False)
        batch_op.create_index("ix_agents_tenant_id_status_id", ["tenant_id", "status", "id"], unique=False)

    op.create_table(
        "api_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("prefix", TEXT, nullable=False),
        sa.Column("secret_hash", TEXT, nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("last_used_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
    )
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.create_index("ix_api_keys_tenant_id_created_by_id", ["tenant_id", "created_by", "id"], unique=False)
        batch_op.create_index("ix_api_keys_tenant_id_id", ["tenant_id", "id"], unique=False)

    op.create_table(
        "applied_operations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("payload_sha256", TEXT, nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_applied_operations"),
    )
    with op.batch_alter_table("applied_operations", schema=None) as batch_op:
        batch_op.create_index("ix_applied_operations_expires_at", ["expires_at"], unique=False)

    op.create_table(
        "audit_events",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("actor_id", TEXT, nullable=True),
        sa.Column("actor_kind", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("resource_kind", TEXT, nullable=False),
        sa.Column("resource_id", TEXT, nullable=True),
        sa.Column("result", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=True),
        sa.Column("request_id", TEXT, nullable=True),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index("ix_audit_events_tenant_id_action_at", ["tenant_id", "action", "at"], unique=False)
        batch_op.create_index("ix_audit_events_tenant_id_actor_id_at", ["tenant_id", "actor_id", "at"], unique=False)
        batch_op.create_index("ix_audit_events_tenant_id_at", ["tenant_id", "at"], unique=False)
        batch_op.create_index("ix_audit_events_tenant_id_resource_id_at", ["tenant_id", "resource_id", "at"], unique=False)

    op.create_table(
        "document_history",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("document_id", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("filename", TEXT, nullable=True),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("original_name", TEXT, nullable=False),
        sa.Column("language", TEXT, nullable=True),
        sa.Column("page_count", sa.BigInteger(), nullable=True),
        sa.Column("character_count", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("superseded_generation", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("document_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_document_history"),
    )
    with op.batch_alter_table("document_history", schema=None) as batch_op:
        batch_op.create_index(
            "ix_document_history_tenant_id_knowledge_base_id_document_id_id",
            ["tenant_id", "knowledge_base_id", "document_id", "id"],
            unique=False,
        )
        batch_op.create_index(
            "ix_document_history_tenant_id_knowledge_base_id_supers_d1e34539",
            ["tenant_id", "knowledge_base_id", "superseded_generation", "id"],
            unique=False,
        )

    op.create_table(
        "documents",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("filename", TEXT, nullable=True),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("original_name", TEXT, nullable=False),
        sa.Column("language", TEXT, nullable=True),
        sa.Column("page_count", sa.BigInteger(), nullable=True),
        sa.Column("character_count", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
    )
    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.create_index("ix_documents_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)
        batch_op.create_index("ix_documents_tenant_id_knowledge_base_id_sha256", ["tenant_id", "knowledge_base_id", "sha256"], unique=False)

    op.create_table(
        "kb_intents",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("fence", TEXT, nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_intents"),
    )
    with op.batch_alter_table("kb_intents", schema=None) as batch_op:
        batch_op.create_index("ix_kb_intents_knowledge_base_id_expires_at", ["knowledge_base_id", "expires_at"], unique=False)

    op.create_table(
        "kb_ops",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("operation_id", TEXT, nullable=False),
        sa.Column("payload_sha256", TEXT, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("actor_kind", TEXT, nullable=False),
        sa.Column("actor_id", TEXT, nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("manifest_name", TEXT, nullable=False),
        sa.Column("manifest_sha256", TEXT, nullable=False),
        sa.Column("manifest_length_bytes", sa.BigInteger(), nullable=False),
        sa.Column("document_count", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("documents_delta", sa.BigInteger(), nullable=False),
        sa.Column("chunks_delta", sa.BigInteger(), nullable=False),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_ops"),
    )
    with op.batch_alter_table("kb_ops", schema=None) as batch_op:
        batch_op.create_index("ix_kb_ops_knowledge_base_id_created_at", ["knowledge_base_id", "created_at"], unique=False)
        batch_op.create_index(
            "ix_kb_ops_tenant_id_knowledge_base_id_generation_id", ["tenant_id", "knowledge_base_id", "generation", "id"], unique=False
        )

    op.create_table(
        "kb_pins",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("name_key", TEXT, nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("manifest_name", TEXT, nullable=False),
        sa.Column("manifest_sha256", TEXT, nullable=False),
        sa.Column("manifest_length_bytes", sa.BigInteger(), nullable=False),
        sa.Column("document_count", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_by", TEXT, nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_kb_pins"),
        sa.UniqueConstraint("knowledge_base_id", "name_key", name="uq_kb_pins_knowledge_base_id_name_key"),
    )
    with op.batch_alter_table("kb_pins", schema=None) as batch_op:
        batch_op.create_index("ix_kb_pins_expires_at", ["expires_at"], unique=False)
        batch_op.create_index("ix_kb_pins_tenant_id_knowledge_base_id_id", ["tenant_id", "knowledge_base_id", "id"], unique=False)

    op.create_table(
        "kb_tombstones",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("knowledge_base_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("target_id", TEXT, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kb_tombstones"),
    )
    with op.batch_alter_table("kb_tombstones", schema=None) as batch_op:
        batch_op.create_index(
            "ix_kb_tombstones_tenant_id_knowledge_base_id_generation_id",
            ["tenant_id", "knowledge_base_id", "generation", "id"],
            unique=False,
        )

    op.create_table(
        "knowledge_bases",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("name_key", TEXT, nullable=True),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("embedding_model", TEXT, nullable=True),
        sa.Column("signature", TEXT, nullable=False),
        sa.Column("dimension", sa.BigInteger(), nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("chunking", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("manifest_name", TEXT, nullable=False),
        sa.Column("manifest_sha256", TEXT, nullable=False),
        sa.Column("manifest_length_bytes", sa.BigInteger(), nullable=False),
        sa.Column("operation_id", TEXT, nullable=False),
        sa.Column("document_count", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("retained_generations", sa.BigInteger(), nullable=False),
        sa.Column("retained_seconds", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_bases"),
        sa.UniqueConstraint("tenant_id", "name_key", name="uq_knowledge_bases_tenant_id_name_key"),
    )
    with op.batch_alter_table("knowledge_bases", schema=None) as batch_op:
        batch_op.create_index("ix_knowledge_bases_tenant_id_state_id", ["tenant_id", "state", "id"], unique=False)
        batch_op.create_index("ix_knowledge_bases_tenant_id_state_name_key_id", ["tenant_id", "state", "name_key", "id"], unique=False)

    op.create_table(
        "login_counters",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("window_ends_at", Instant(), nullable=False),
        sa.Column("known_until", Instant(), nullable=True),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_login_counters"),
    )
    with op.batch_alter_table("login_counters", schema=None) as batch_op:
        batch_op.create_index("ix_login_counters_expires_at", ["expires_at"], unique=False)

    op.create_table(
        "organizations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("operator_mark", TEXT, nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
        sa.UniqueConstraint("operator_mark", name="uq_organizations_operator_mark"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("last_seen_at", Instant(), nullable=False),
        sa.Column("idle_expires_at", Instant(), nullable=False),
        sa.Column("absolute_expires_at", Instant(), nullable=False),
        sa.Column("idle_seconds", sa.BigInteger(), nullable=False),
        sa.Column("address", TEXT, nullable=True),
        sa.Column("user_agent", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("token_hash", name="uq_sessions_token_hash"),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index("ix_sessions_absolute_expires_at", ["absolute_expires_at"], unique=False)
        batch_op.create_index("ix_sessions_idle_expires_at", ["idle_expires_at"], unique=False)
        batch_op.create_index("ix_sessions_tenant_id_user_id_id", ["tenant_id", "user_id", "id"], unique=False)

    op.create_table(
        "users",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("password_hash", TEXT, nullable=False),
        sa.Column("password_changed_at", Instant(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.create_index("ix_users_tenant_id_id", ["tenant_id", "id"], unique=False)
        batch_op.create_index("ix_users_tenant_id_role_status", ["tenant_id", "role", "status"], unique=False)
        batch_op.create_index("ix_users_tenant_id_status_id", ["tenant_id", "status", "id"], unique=False)


def downgrade() -> None:
    """Undo it."""
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_index("ix_users_tenant_id_status_id")
        batch_op.drop_index("ix_users_tenant_id_role_status")
        batch_op.drop_index("ix_users_tenant_id_id")

    op.drop_table("users")
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index("ix_sessions_tenant_id_user_id_id")
        batch_op.drop_index("ix_sessions_idle_expires_at")
        batch_op.drop_index("ix_sessions_absolute_expires_at")

    op.drop_table("sessions")
    op.drop_table("organizations")
    with op.batch_alter_table("login_counters", schema=None) as batch_op:
        batch_op.drop_index("ix_login_counters_expires_at")

    op.drop_table("login_counters")
    with op.batch_alter_table("knowledge_bases", schema=None) as batch_op:
        batch_op.drop_index("ix_knowledge_bases_tenant_id_state_name_key_id")
        batch_op.drop_index("ix_knowledge_bases_tenant_id_state_id")

    op.drop_table("knowledge_bases")
    with op.batch_alter_table("kb_tombstones", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_tombstones_tenant_id_knowledge_base_id_generation_id")

    op.drop_table("kb_tombstones")
    with op.batch_alter_table("kb_pins", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_pins_tenant_id_knowledge_base_id_id")
        batch_op.drop_index("ix_kb_pins_expires_at")

    op.drop_table("kb_pins")
    with op.batch_alter_table("kb_ops", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_ops_tenant_id_knowledge_base_id_generation_id")
        batch_op.drop_index("ix_kb_ops_knowledge_base_id_created_at")

    op.drop_table("kb_ops")
    with op.batch_alter_table("kb_intents", schema=None) as batch_op:
        batch_op.drop_index("ix_kb_intents_knowledge_base_id_expires_at")

    op.drop_table("kb_intents")
    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.drop_index("ix_documents_tenant_id_knowledge_base_id_sha256")
        batch_op.drop_index("ix_documents_tenant_id_knowledge_base_id_id")

    op.drop_table("documents")
    with op.batch_alter_table("document_history", schema=None) as batch_op:
        batch_op.drop_index("ix_document_history_tenant_id_knowledge_base_id_supers_d1e34539")
        batch_op.drop_index("ix_document_history_tenant_id_knowledge_base_id_document_id_id")

    op.drop_table("document_history")
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_events_tenant_id_resource_id_at")
        batch_op.drop_index("ix_audit_events_tenant_id_at")
        batch_op.drop_index("ix_audit_events_tenant_id_actor_id_at")
        batch_op.drop_index("ix_audit_events_tenant_id_action_at")

    op.drop_table("audit_events")
    with op.batch_alter_table("applied_operations", schema=None) as batch_op:
        batch_op.drop_index("ix_applied_operations_expires_at")

    op.drop_table("applied_operations")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_index("ix_api_keys_tenant_id_id")
        batch_op.drop_index("ix_api_keys_tenant_id_created_by_id")

    op.drop_table("api_keys")
    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.drop_index("ix_agents_tenant_id_status_id")
        batch_op.drop_index("ix_agents_tenant_id_id")

    op.drop_table("agents")
    with op.batch_alter_table("agent_versions", schema=None) as batch_op:
        batch_op.drop_index("ix_agent_versions_tenant_id_agent_id_number_id")

    op.drop_table("agent_versions")
