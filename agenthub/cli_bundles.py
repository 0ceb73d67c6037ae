"""Knowledge bases out and in as files: `python -m agenthub.cli kb export|import`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from agenthub.cli_knowledge import opened
from agenthub.core.types import EVERY_TENANT, TenantId
from agenthub.repositories.knowledge.bundle_contents import Head
from agenthub.repositories.knowledge.exporting import Content, Exports
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.importing import Imported, Imports
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.models import check_signature
from agenthub.repositories.platform.organizations import OrganizationRepository


@click.command("export")
@click.argument("knowledge_base_id", metavar="ID")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--generation", type=int, help="An older generation that is still kept; the current one if left out.")
def export_command(knowledge_base_id: str, path: Path, generation: int | None) -> None:
    """Write one generation of a knowledge base to a new file, while the servers go on."""
    with opened() as resources:
        base = KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, knowledge_base_id)
        old = base if generation is None else History(resources.storage).at(base, generation)
        said: list[Content] = []
        try:
            with path.open("xb") as file:
                for piece in Exports(resources.storage, resources.knowledge).bundle(old, said.append):
                    file.write(piece)
        except FileExistsError as error:
            raise click.ClickException(f"{path} exists already") from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    content = said[0]
    counts = f"{content.document_count} documents, {content.chunk_count} chunks"
    click.echo(f"{base.name}, generation {content.generation}: {counts}, content {content.content_sha256}")


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--organization", "tenant_id", required=True, help="The id of the organization that gets the knowledge base.")
@click.option("--name", help="What to call it; as the bundle says if left out.")
def import_command(path: Path, tenant_id: str, name: str | None) -> None:
    """Make a new knowledge base of a bundle. Nothing is embedded again."""
    with opened("embedders") as resources:
        owner = OrganizationRepository(resources.storage).get(EVERY_TENANT, tenant_id)

        def check(head: Head) -> None:
            check_signature(resources.embedders, head.embedding_model, head.signature)

        most = resources.settings.web.max_body_bytes
        imports = Imports(resources.storage, resources.knowledge, most_original_bytes=most)
        with path.open("rb") as stream:
            made: Imported = imports.take(TenantId(owner.id), "operator", stream, name, check, lambda imported: imported)
    base = made.knowledge_base
    counts = f"{base.document_count} documents, {base.chunk_count} chunks"
    click.echo(f"{base.id} {base.name}: {counts}, content {made.content_sha256}")


BUNDLE_COMMANDS: Final = (export_command, import_command)
"""What the group `kb` gets from here."""
