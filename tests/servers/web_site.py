"""A web site on a loopback port, made of functions, that counts who comes: over HTTP, or HTTPS with a certificate of its own."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Asked:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    handler: BaseHTTPRequestHandler

    def answer(self, data: bytes, status: int = 200, /, **headers: str) -> None:
        """Send a whole answer."""
        self.handler.send_response(status)
        for name, value in {"content_length": str(len(data)), **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def redirect(self, location: str) -> None:
        """Send the client elsewhere."""
        self.answer(b"", 302, location=location)


Page = Callable[[Asked], None]


@dataclass
class Site:
    """A running site: `pages` may be changed while it runs, `hits` is who came."""

    port: int
    scheme: str
    pages: dict[str, Page]
    trusted: ssl.SSLContext | None = None
    hits: list[Asked] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a page."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        """The pages that were asked for, in order."""
        return [hit.path for hit in self.hits]


def text_page(text: str | bytes, media_type: str = "text/html; charset=utf-8", **headers: str) -> Page:
    """A page that always says the same."""
    data = text.encode() if isinstance(text, str) else text
    return lambda asked: asked.answer(data, content_type=media_type, **headers)


@contextmanager
def web_site(pages: Mapping[str, Page], *, certificate_of: str | None = None, folder: Path | None = None) -> Iterator[Site]:
    """A site while the block runs; `certificate_of` is the name its certificate is for."""
    site = Site(0, "https" if certificate_of else "http", dict(pages))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    server.daemon_threads = True
    site.port = server.server_address[1]
    if certificate_of and folder:
        _with_tls(server, site, certificate_of, folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, self)
            site.hits.append(asked)
            page = site.pages.get(self.path.partition("?")[0])
            try:
                if page is None:
                    asked.answer(b"nothing here", 404)
                else:
                    page(asked)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            """Silent."""

    return Handler


def _with_tls(server: ThreadingHTTPServer, site: Site, name: str, folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "site.pem").write_bytes(pem + private)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "site.pem")
    serving.sni_callback = lambda _socket, server_name, _context: site.server_names.append(server_name)
    server.socket = serving.wrap_socket(server.socket, server_side=True)
    site.trusted = ssl.create_default_context(cadata=pem.decode())
