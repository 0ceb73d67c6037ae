"""Bundles over HTTP: out under writes, in on other storage without embedding, and every hostile one refused without a trace."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.bundle import BundleWriter
from agenthub.rag.embedding.cached import CachedEmbedder
from agenthub.rag.embedding.local import LocalEmbedder
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import PINS
from tests.api import Api, in_milvus, make_app

Members = dict[str, bytes]
SERVICES = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_MAINTENANCE": "off"}
IMPORT = "/api/knowledge-bases/import"
QUESTIONS = ("which animal is pink", "stripes", "a text of one's own")


def open_api(folder: Path, url: str = "memory://", **environment: str) -> Api:
    return Api(make_app(folder, url, **SERVICES, **environment)).login()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder = tmp_path_factory.mktemp("bundles")
    return open_api(folder, f"sqlite:///{folder}/agenthub.sqlite3")


@pytest.fixture(scope="module")
def base(api: Api) -> str:
    """Documents added, replaced and deleted, chunks of one's own added and deleted: a bundle holds what is left."""
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'The zoo', 'description': 'All of it'}, 201)['id']}"
    texts = ["Walruses have tusks.", "Zebras have stripes.", "SECRET words that were deleted.", "Flamingos are pink."]
    ids = [api.post(f"{base}/documents", {"title": text[:8], "text": text, "metadata": {"n": 1.0}}, 201)["id"] for text in texts]
    api.call("PUT", f"{base}/documents/{ids[0]}", 200, json={"title": "walrus", "text": "Walruses live in the cold."})
    api.call("DELETE", f"{base}/documents/{ids[2]}", 200)
    files = {"files": [(io.BytesIO(("# Otters\n\n" + "Otters hold hands. " * 200).encode()), "otters.md")]}
    api.call("POST", f"{base}/documents", 201, data=files, content_type="multipart/form-data")
    own: list[dict[str, Any]] = [
        {"id": f"own/{i}", "text": f"A text of one's own, SECRET {i}.", "metadata": {"i": i, "tags": ["a", "ü"]}} for i in range(3)
    ]
    api.post(f"{base}/chunks", {"items": own})
    api.post(f"{base}/chunks", {"items": [{**item, "text": item["text"].replace("SECRET ", "")} for item in own]})
    api.post(f"{base}/chunks/delete", {"ids": ["own/2"]})
    return base


@pytest.fixture(scope="module")
def bundle(api: Api, base: str) -> bytes:
    data: bytes = api.get(f"{base}/export")
    return data


def content(api: Api, base: str, generation: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"{base}/generations/{generation or api.get(base)['generation']}/content")
    return found


def answers(api: Api, base: str) -> list[list[tuple[Any, ...]]]:
    found = []
    for mode in ("semantic", "keyword", "hybrid"):
        for question in QUESTIONS:
            hits = api.post(f"{base}/search", {"query": question, "mode": mode, "top_k": 100})["hits"]
            found.append(sorted((round(hit["score"], 5), hit["text"], json.dumps(hit["metadata"], sort_keys=True)) for hit in hits))
    return found


def load(api: Api, data: bytes, status: int = 201, name: str | None = None) -> Any:
    return api.call("POST", f"{IMPORT}?name={name or new_id()}", status, data=data, content_type="application/x-tar")


def imported(api: Api, data: bytes) -> str:
    return f"/api/knowledge-bases/{load(api, data)['knowledge_base']['id']}"


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql", "milvus"])
def test_an_import_anywhere_equals_what_was_exported(
    api: Api, base: str, bundle: bytes, backend: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"memory": "memory://", "milvus": "memory://", "sqlite": f"sqlite:///{tmp_path}/agenthub.sqlite3"}
    url = urls.get(backend) or request.getfixturevalue("migrated_postgresql")
    other = open_api(tmp_path, url, **(in_milvus() if backend == "milvus" else {}))
    with monkeypatch.context() as patched:
        for embedder in (CachedEmbedder, LocalEmbedder):
            patched.setattr(embedder, "embed", must_not_embed)
        taken = load(other, bundle, name="Copy")
    copy = f"/api/knowledge-bases/{taken['knowledge_base']['id']}"
    expected = content(api, base)
    assert taken["content_sha256"] == expected["content_sha256"]
    assert content(other, copy) == {**expected, "generation": 1}
    assert answers(other, copy) == answers(api, base)
    row, original = other.get(copy), api.get(base)
    same = (
        "description",
        "embedding_model",
        "signature",
        "dimension",
        "language",
        "chunking",
        "document_count",
        "chunk_count",
        "size_bytes",
    )
    assert {name: row[name] for name in same} == {name: original[name] for name in same}
    for document in other.get(f"{copy}/documents")["items"]:
        twin = next(d for d in api.get(f"{base}/documents")["items"] if d["sha256"] == document["sha256"])
        assert (document["title"], document["metadata"], document["created_at"]) == (twin["title"], twin["metadata"], twin["created_at"])
        downloads = [
            one.send("GET", f"{kb}/documents/{d['id']}/original").data for one, kb, d in ((other, copy, document), (api, base, twin))
        ]
        assert downloads[0] == downloads[1]
    assert [item["kind"] for item in other.get(f"{copy}/generations")["items"]] == ["import"]
    assert other.post(f"{copy}/documents", {"title": "more", "text": "It takes writes."}, 201)["generation"] == 2
    assert not other.app.extensions["agenthub"].knowledge.verify(row["id"], pointer(other, copy))


def test_there_and_back_between_vector_engines_is_the_same(api: Api, base: str, bundle: bytes, tmp_path: Path) -> None:
    other = open_api(tmp_path, **in_milvus())
    there = imported(other, bundle)
    back = imported(api, other.get(f"{there}/export"))
    assert content(other, there)["content_sha256"] == content(api, back)["content_sha256"] == content(api, base)["content_sha256"]
    assert answers(other, there) == answers(api, back) == answers(api, base)


def must_not_embed(*_: Any) -> Any:
    raise AssertionError("an import embeds nothing")


def pointer(api: Api, base: str) -> Any:
    storage = api.app.extensions["agenthub"].storage
    return KnowledgeBaseRepository(storage).get(EVERY_TENANT, base.rsplit("/", 1)[1]).pointer


def test_a_bundle_of_a_copy_is_the_same_again(api: Api, base: str, bundle: bytes) -> None:
    copy = imported(api, bundle)
    again = imported(api, api.get(f"{copy}/export"))
    assert content(api, copy)["content_sha256"] == content(api, again)["content_sha256"] == content(api, base)["content_sha256"]
    api.call("PUT", f"{copy}/documents/{api.get(f'{copy}/documents')['items'][0]['id']}", 200, json={"title": "x", "text": "other"})
    assert content(api, copy)["content_sha256"] != content(api, base)["content_sha256"]


def test_any_tar_program_reads_it_and_nothing_deleted_is_in_it(bundle: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        names = archive.getnames()
    assert names[0] == "bundle.json" and names[-1] == "manifest.json"
    assert b"SECRET" not in bundle and b"tusks" not in bundle


def test_an_empty_knowledge_base_and_ones_own_vectors_travel_too(api: Api) -> None:
    made = api.post("/api/knowledge-bases", {"name": new_id(), "embedding_model": None, "dimension": 3}, 201)
    own = f"/api/knowledge-bases/{made['id']}"
    assert content(api, imported(api, api.get(f"{own}/export")))["chunk_count"] == 0
    api.post(f"{own}/chunks", {"items": [{"id": "a", "text": "x", "vector": [1, 2, 3]}]})
    copy = imported(api, api.get(f"{own}/export"))
    assert api.post(f"{copy}/search", {"vector": [1, 2, 3]})["hits"][0]["chunk_id"] == "a"
    assert content(api, copy)["content_sha256"] == content(api, own)["content_sha256"]


def test_an_old_generation_is_exported_while_others_write(api: Api) -> None:
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': new_id()}, 201)['id']}"
    for number in range(4):
        document = api.post(f"{base}/documents", {"title": f"{number}", "text": f"text {number}"}, 201)
    before, done = content(api, base, 5), threading.Event()

    def write() -> None:
        writer = Api(api.app, api.token)
        while not done.is_set():
            writer.call("PUT", f"{base}/documents/{document['id']}", 200, json={"title": "new", "text": new_id()})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        bundles = [Api(api.app, api.token).get(f"{base}/export?generation=5") for _ in range(5)]
        current = [Api(api.app, api.token).send("GET", f"{base}/export") for _ in range(5)]
    finally:
        done.set()
        thread.join()
    for data in bundles:
        assert load(api, data)["content_sha256"] == before["content_sha256"]
    for answer in current:
        expected = content(api, base, int(answer.headers["X-KB-Generation"]))
        assert load(api, answer.data)["content_sha256"] == expected["content_sha256"]
    assert api.get(base)["generation"] > 5


def test_a_generation_stays_while_it_is_exported(api: Api, base: str) -> None:
    storage = api.app.extensions["agenthub"].storage
    response = api.client.get(f"{base}/export", headers={"Authorization": f"Bearer {api.token}"}, buffered=False)
    pieces = response.iter_encoded()
    next(pieces)
    assert storage.count(PINS, EVERY_TENANT) == 1
    response.close()
    assert storage.count(PINS, EVERY_TENANT) == 0
    api.refused("GET", f"{base}/export?generation=999", 404, "not_found", "generation")


def test_an_import_is_applied_once(api: Api, bundle: bytes) -> None:
    name, headers = new_id(), {"Idempotency-Key": new_id()}
    sent = [api.send("POST", f"{IMPORT}?name={name}", data=bundle, headers=headers) for _ in range(2)]
    assert sent[0].data == sent[1].data and sent[1].headers["Idempotent-Replayed"] == "true"
    assert len(api.get(f"/api/knowledge-bases?name={name}")["items"]) == 1
    api.refused("POST", f"{IMPORT}?name={name}", 409, "already_exists", "name", data=bundle)


# --- hostile bundles ---


def members_of(bundle: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def sealed(members: Members, **summary: Any) -> bytes:
    """A bundle of these members whose manifest is right about them."""
    writer, tail = BundleWriter(), json.loads(members["manifest.json"])
    pieces = [writer.member(name, data) for name, data in members.items() if name != "manifest.json"]
    kept = {name: tail[name] for name in ("document_count", "chunk_count", "content_sha256")}
    return b"".join([*pieces, writer.end({**kept, **summary})])


def with_json(name: str, change: Callable[[dict[str, Any]], Any], line: int = 0) -> Callable[[Members], bytes]:
    def make(members: Members) -> bytes:
        lines = members[name].splitlines()
        value = json.loads(lines[line])
        change(value)
        lines[line] = json.dumps(value).encode()
        return sealed(members | {name: b"\n".join(lines) + b"\n"})

    return make


def with_vectors(change: Callable[[Any], Any]) -> Callable[[Members], bytes]:
    def make(members: Members) -> bytes:
        vectors = np.frombuffer(members["vectors-000001.f32"], dtype="<f4").reshape(-1, 384).copy()
        return sealed(members | {"vectors-000001.f32": np.asarray(change(vectors), dtype="<f4").tobytes()})

    return make


def without(prefix: str) -> Callable[[Members], bytes]:
    return lambda members: sealed({name: data for name, data in members.items() if not name.startswith(prefix)})


def first(members: Members, prefix: str) -> str:
    return next(name for name in members if name.startswith(prefix))


def twice(prefix: str) -> Callable[[Members], bytes]:
    """The first such member once more, under its own name."""

    def make(members: Members) -> bytes:
        writer, pieces = BundleWriter(), []
        for name, data in members.items():
            if name != "manifest.json":
                pieces.append(writer.member(name, data))
            if name == first(members, prefix):
                pieces.append(writer.member(name, data))
        tail = json.loads(members["manifest.json"])
        return b"".join([*pieces, writer.end({name: tail[name] for name in ("document_count", "chunk_count", "content_sha256")})])

    return make


def foreign(**fields: Any) -> Callable[[Members], bytes]:
    """A tar member that no bundle has, in front."""

    def make(members: Members) -> bytes:
        info = tarfile.TarInfo(fields.pop("name", "x"))
        for name, value in fields.items():
            setattr(info, name, value)
        return info.tobuf(tarfile.GNU_FORMAT) + sealed(members)

    return make


def renamed(old: str, new: str) -> Callable[[Members], bytes]:
    return lambda members: sealed({new if name == first(members, old) else name: data for name, data in members.items()})


def damaged(members: Members) -> bytes:
    whole = bytearray(sealed(members))
    whole[whole.index(b"stripes")] ^= 1
    return bytes(whole)


def same_chunk_twice(members: Members) -> bytes:
    one = members["chunks-000001.jsonl"].splitlines(keepends=True)[0]
    other = members["chunks-000002.jsonl"].splitlines(keepends=True)
    other[0] = one
    return sealed(members | {"chunks-000002.jsonl": b"".join(other)})


HEAD, DOCUMENTS, CHUNKS = "bundle.json", "documents-000001.jsonl", "chunks-000001.jsonl"
HOSTILE: dict[str, tuple[int, Callable[[Members], bytes]]] = {
    "nothing": (400, lambda _: b""),
    "no tar": (400, lambda _: b"PK\x03\x04" * 1000),
    "zeros": (400, lambda _: bytes(10_240)),
    "gzip": (400, lambda m: b"\x1f\x8b" + sealed(m)),
    "truncated": (400, lambda m: sealed(m)[:-1024]),
    "cut in the middle": (400, lambda m: sealed(m)[:5000]),
    "trailing": (400, lambda m: sealed(m) + b"x"),
    "a second archive": (400, lambda m: sealed(m) * 2),
    "a link": (400, foreign(type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a hard link": (400, foreign(type=tarfile.LNKTYPE, linkname="bundle.json")),
    "a device": (400, foreign(type=tarfile.CHRTYPE)),
    "a folder": (400, foreign(type=tarfile.DIRTYPE)),
    "an extended header": (400, foreign(type=tarfile.XHDTYPE, size=512)),
    "a negative size": (400, lambda m: sealed(m)[:124] + b"-0000000010\x00" + sealed(m)[136:]),
    "a huge size": (400, lambda m: sealed(m)[:124] + b"77777777777\x00" + sealed(m)[136:]),
    "a member too long": (413, lambda m: sealed(m | {HEAD: m[HEAD].rstrip() + b" " * 70_000})),
    "a climbing name": (422, renamed("originals/", "originals/../../../etc/passwd")),
    "an absolute name": (422, renamed("originals/", "/etc/passwd")),
    "an unknown member": (422, renamed("documents-", "notes.txt")),
    "parts out of order": (422, renamed("documents-", "documents-000002.jsonl")),
    "no head": (400, without("bundle.json")),
    "no originals": (422, without("originals/")),
    "no documents": (422, without("documents-")),
    "no vectors": (400, without("vectors-000001")),
    "no chunks": (422, without("chunks-000001")),
    "an original twice": (422, twice("originals/")),
    "documents twice": (422, twice("documents-")),
    "chunks twice": (400, twice("chunks-")),
    "a chunk twice": (422, same_chunk_twice),
    "a flipped bit": (422, damaged),
    "another digest": (422, lambda m: sealed(m, content_sha256="0" * 64)),
    "other counts": (422, lambda m: sealed(m, chunk_count=1)),
    "an unknown format": (422, with_json(HEAD, lambda h: h.update(format=99))),
    "an unknown field": (422, with_json(HEAD, lambda h: h.update(tenant_id=new_id()))),
    "a missing field": (422, with_json(HEAD, lambda h: h.pop("signature"))),
    "another model": (409, with_json(HEAD, lambda h: h.update(embedding_model="other"))),
    "another signature": (409, with_json(HEAD, lambda h: h.update(signature=h["signature"] + "x"))),
    "another dimension": (422, with_json(HEAD, lambda h: h.update(dimension=383))),
    "an absurd dimension": (422, with_json(HEAD, lambda h: h.update(dimension=10**9))),
    "a wrong client signature": (422, with_json(HEAD, lambda h: h.update(embedding_model=None))),
    "an unknown language": (422, with_json(HEAD, lambda h: h.update(language="klingon"))),
    "an unknown strategy": (422, with_json(HEAD, lambda h: h["chunking"].update(strategy="eval"))),
    "a count that is no number": (422, with_json(HEAD, lambda h: h.update(chunk_count=True))),
    "too many chunks": (422, with_json(HEAD, lambda h: h.update(chunk_count=10**12))),
    "fewer chunks than there are": (422, with_json(HEAD, lambda h: h.update(chunk_count=1))),
    "fewer documents than there are": (422, with_json(HEAD, lambda h: h.update(document_count=1))),
    "no JSON": (400, lambda m: sealed(m | {HEAD: b"{"})),
    "deep JSON": (422, lambda m: sealed(m | {HEAD: b"[" * 100 + b"]" * 100})),
    "a document that is no id": (422, with_json(DOCUMENTS, lambda d: d.update(id="../x"))),
    "another hash of a document": (422, with_json(DOCUMENTS, lambda d: d.update(sha256="0" * 64))),
    "another size of a document": (422, with_json(DOCUMENTS, lambda d: d.update(size_bytes=1))),
    "another title": (422, with_json(DOCUMENTS, lambda d: d.update(title="forged"))),
    "another count of chunks": (422, with_json(DOCUMENTS, lambda d: d.update(chunk_count=7))),
    "a time without zone": (422, with_json(DOCUMENTS, lambda d: d.update(created_at="2026-01-01T00:00:00"))),
    "a place to write to": (422, with_json(DOCUMENTS, lambda d: d.update(original_name="manifests/1-x.json"))),
    "a chunk of no document": (422, with_json(CHUNKS, lambda c: c.update(document_id=new_id()))),
    "a chunk with another text": (422, with_json(CHUNKS, lambda c: c.update(text="forged"))),
    "a chunk without an id": (422, with_json(CHUNKS, lambda c: c.update(id=""))),
    "a chunk id with a line end": (422, with_json(CHUNKS, lambda c: c.update(id="a\nb"))),
    "a chunk with a NUL": (422, with_json(CHUNKS, lambda c: c.update(text="\x00"))),
    "metadata that is a list": (422, with_json(CHUNKS, lambda c: c.update(metadata=[]))),
    "an unfinished line": (400, lambda m: sealed(m | {CHUNKS: m[CHUNKS][:-1]})),
    "too many lines": (400, lambda m: sealed(m | {CHUNKS: m[CHUNKS] * 2000})),
    "NaN": (422, with_vectors(lambda v: v * np.nan)),
    "infinity": (422, with_vectors(lambda v: v * np.inf)),
    "zeros for vectors": (422, with_vectors(lambda v: v * 0)),
    "long vectors": (422, with_vectors(lambda v: v * 2)),
    "other vectors": (422, with_vectors(lambda v: -v)),
    "a vector too many": (422, with_vectors(lambda v: np.concatenate([v, v]))),
}


def traces(api: Api) -> dict[str, Any]:
    resources = api.app.extensions["agenthub"]
    rows = {name: len(shelf.rows) for name, shelf in resources.storage._shelves.items() if shelf.rows and name != "audit_events"}
    files = [path for path in resources.knowledge.volume.root.rglob("*") if path.is_file()]
    return {"rows": rows, "files": len(files)}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return open_api(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_bundle_is_refused_and_leaves_nothing(empty: Api, bundle: bytes, kind: str) -> None:
    status, make = HOSTILE[kind]
    data, before = make(members_of(bundle)), traces(empty)
    error = load(empty, data, status)["error"]
    assert error["message"] and error["code"] != "internal"
    assert traces(empty) == before
    assert empty.get("/api/knowledge-bases")["items"] == []


def test_what_the_hostile_ones_are_made_of_is_accepted(empty: Api, bundle: bytes) -> None:
    """Otherwise they could be refused for how the test packs them."""
    assert sealed(members_of(bundle)) == bundle
    made = imported(empty, sealed(members_of(bundle)))
    empty.call("DELETE", made, 204)


def test_every_flipped_byte_is_noticed(empty: Api, bundle: bytes) -> None:
    for place in range(0, len(bundle), max(1, len(bundle) // 60)):
        changed = bytearray(bundle)
        changed[place] ^= 0x20
        response = empty.send("POST", f"{IMPORT}?name=x", data=bytes(changed))
        assert 400 <= response.status_code < 500, (place, response.status_code)
    assert empty.get("/api/knowledge-bases")["items"] == []


def test_a_bundle_over_the_limit_is_not_read(tmp_path: Path, bundle: bytes) -> None:
    small = open_api(tmp_path, AGENTHUB_MAX_BUNDLE_BYTES=str(1024 * 1024))
    small.refused("POST", f"{IMPORT}?name=x", 413, "payload_too_large", data=bundle + bytes(1024 * 1024))


def test_a_full_volume_refuses_and_leaves_nothing(tmp_path: Path, bundle: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    other = open_api(tmp_path)
    volume, before = other.app.extensions["agenthub"].knowledge.volume, traces(other)
    monkeypatch.setattr(volume._disk, "free", lambda _: (1000, 10_000_000))
    other.refused("POST", f"{IMPORT}?name=x", 507, "volume_full", data=bundle)
    assert traces(other) == before


# --- golden bundles: what any release wrote is taken by this one ---

GOLDEN = Path(__file__).parents[2] / "data" / "bundles"


@pytest.mark.parametrize("number", [1, 2])
def test_golden_bundles_are_taken(api: Api, number: int) -> None:
    data = (GOLDEN / f"format-{number}.tar").read_bytes()
    taken = load(api, data)
    base = f"/api/knowledge-bases/{taken['knowledge_base']['id']}"
    assert (
        taken["content_sha256"] == json.loads(members_of(data)["manifest.json"])["content_sha256"] == content(api, base)["content_sha256"]
    )
    assert api.post(f"{base}/verify", {})["intact"]
    again = members_of(api.get(f"{base}/export"))
    assert json.loads(again["bundle.json"])["format"] == 2
    assert json.loads(again["manifest.json"])["content_sha256"] == taken["content_sha256"], "the digest does not depend on the format"
    faqs = api.get(f"/api/faqs?knowledge_base_id={taken['knowledge_base']['id']}")["items"]
    assert [(faq["question"], faq["answer"], faq["category"], faq["priority"]) for faq in faqs] == (
        [("When is the lamp lit?", "At dusk.", "Sea", 2)] if number == 2 else []
    )
    assert api.post(f"{base}/search", {"vector": [1, 0, 0, 0]})["hits"][0]["chunk_id"] == "01a"


@pytest.mark.parametrize(
    "change",
    [
        lambda faq: faq["faq"].update(answer="Another."),
        lambda faq: faq["faq"].update(priority=-1),
        lambda faq: faq["faq"].update(more=1),
        lambda faq: faq.update(faq=None),
        lambda faq: faq.update(title="Another?"),
        lambda faq: faq.update(chunk_count=2),
        lambda faq: faq.update(media_type="text/plain"),
    ],
)
def test_a_faq_that_is_not_what_it_says_is_refused(api: Api, change: Callable[[dict[str, Any]], Any]) -> None:
    members = members_of((GOLDEN / "format-2.tar").read_bytes())
    load(api, with_json("documents-000001.jsonl", change, line=1)(members), 422)
