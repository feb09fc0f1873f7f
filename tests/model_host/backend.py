"""A small real HTTP server on a Unix socket, with h11 as a second opinion on where a message ends.

Every request that it reads is kept in `seen`. The first part of the path names a behaviour; everything else echoes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import h11


@dataclass
class Seen:
    """One request as the server understood it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    length: int = 0
    digest: str = ""

    def header(self, name: str) -> str | None:
        """All values of a header, joined."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


@dataclass
class Backend:
    """The server; `errors` holds what h11 refused to read."""

    name: str = "v1"
    seen: list[Seen] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self, path: Path) -> asyncio.Server:
        """Listen."""
        return await asyncio.start_unix_server(self._serve, path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except h11.RemoteProtocolError as error:
            self.errors.append(str(error))
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            event = await self._next(connection, reader)
            if not isinstance(event, h11.Request):
                return
            headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            seen = Seen(event.method.decode(), event.target.decode(), headers)
            query = {key: values[0] for key, values in parse_qs(urlsplit(seen.target).query).items()}
            behaviour = urlsplit(seen.target).path.strip("/").split("/")[0]
            if behaviour == "refuse-early":
                self.seen.append(seen)
                writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
                await writer.drain()
                await asyncio.sleep(0.2)
                return
            digest = hashlib.sha256()
            while isinstance(data := await self._next(connection, reader), h11.Data):
                seen.length += len(data.data)
                digest.update(data.data)
                if behaviour == "slow-reader":
                    await asyncio.sleep(0.001)
            if not isinstance(data, h11.EndOfMessage):
                return
            rest = connection.trailing_data[0]
            seen.digest = digest.hexdigest()
            self.seen.append(seen)
            if not await self._answer(behaviour, query, seen, writer):
                return
            connection = h11.Connection(h11.SERVER)
            # What came after this message belongs to the next one.
            if rest:
                connection.receive_data(rest)

    async def _next(self, connection: h11.Connection, reader: asyncio.StreamReader) -> object:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                connection.receive_data(data)
                continue
            return event

    async def _answer(self, behaviour: str, query: dict[str, str], seen: Seen, writer: asyncio.StreamWriter) -> bool:
        """Write an answer; whether the connection stays open."""
        fixed = {
            "die-before": b"",
            "die-in-head": b"HTTP/1.1 200 OK\r\nContent-Le",
            "die-mid": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
            "die-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "eof": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
            "garbage": b"220 smtp.example ESMTP\r\n",
            "cl-and-te": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        }
        if behaviour in fixed:
            writer.write(fixed[behaviour])
            await writer.drain()
            return False
        kept = {
            "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "double": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
            "hop": b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
            b"Proxy-Connection: x\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nok",
            "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
            b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
        }
        if behaviour in kept:
            writer.write(kept[behaviour])
            await writer.drain()
            return True
        if behaviour == "sleep":
            await asyncio.sleep(float(query["s"]))
        if behaviour == "large":
            return await self._large(int(query["n"]), query, writer)
        document = {
            "server": self.name, "method": seen.method, "target": seen.target, "length": seen.length,
            "digest": seen.digest, "headers": seen.headers,
        }  # fmt: skip
        body = json.dumps(document).encode()
        if behaviour == "chunked":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 7):
                piece = body[start : start + 7]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
        else:
            sent = b"" if seen.method == "HEAD" else body
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), sent)
            )
        await writer.drain()
        return behaviour != "close-after"

    async def _large(self, size: int, query: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        chunked = "chunked" in query
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        block = bytes(65536)
        while size > 0:
            piece = block[: min(size, len(block))]
            size -= len(piece)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True
