"""Stores behind a URL: read by every verb as a folder is, and what goes wrong is said as what it is."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

import skelconv
from skelconv.cli.command import run
from skelconv.cli.main import cli
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.store.remote import RemoteError
from skelconv.synth import synthesize
from skelconv.verify import verify

pytest.importorskip("aiohttp", reason="needs the extra remote")


class Server(http.server.SimpleHTTPRequestHandler):
    """A web server of files; ``ranges`` says whether it knows Range requests, ``broken`` what it refuses."""

    ranges = True
    broken = ""

    def log_message(self, format: str, *words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Send a file, or the part of it that was asked for."""
        if self.broken and self.broken in self.path:
            return self.send_error(503, "out of service")
        wanted, file = self.headers.get("Range"), Path(self.translate_path(self.path))
        if not (self.ranges and wanted and file.is_file()):
            return super().do_GET()
        content = file.read_bytes()
        first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted).groups()
        start = int(first) if first else len(content) - int(last)
        stop = min(int(last) + 1, len(content)) if first and last else len(content)
        self.send_response(206)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:stop])
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    synthesize("ucla", folder / "raw", 3)
    ingest(make_plan("ucla", folder / "raw", "test 1"), folder / "out.zarr")
    return folder


def serve(folder: Path, **settings: object) -> Iterator[str]:
    handler = type("Handler", (Server,), settings)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    yield from serve(folder)


def test_every_reading_verb_takes_a_url(folder: Path, url: str, tmp_path: Path) -> None:
    store = f"{url}/out.zarr"
    work = {
        "info": ["info", store],
        "verify": ["verify", "-q", store],
        "clean": ["clean", store, str(tmp_path / "clean.zarr")],
        "s2i": ["s2i", "-q", store, str(tmp_path / "s2i.zarr"), "--size", "32"],
        "view": ["view", store, "--out", str(tmp_path / "view.html")],
        "export": ["export", store, str(tmp_path / "csv"), "--to", "csv"],
        "remap": ["remap", store, str(tmp_path / "remap.zarr"), "--format", "toyota13"],
        "report": ["report", store, "--out", str(tmp_path / "report.html")],
    }
    for verb, words in work.items():
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, (verb, done.output)
    local = tmp_path / "local.zarr"
    CliRunner().invoke(cli, ["clean", str(folder / "out.zarr"), str(local)], catch_exceptions=False)
    remote = tmp_path / "clean.zarr"
    files = sorted(file.relative_to(local) for file in local.rglob("*") if file.is_file())
    assert files
    for file in files:
        assert (local / file).read_bytes() == (remote / file).read_bytes(), file


def test_an_image_store_is_read_from_a_url(folder: Path, url: str, tmp_path: Path) -> None:
    made = folder / "images.zarr"
    CliRunner().invoke(
        cli, ["s2i", "-q", str(folder / "out.zarr"), str(made), "--size", "32"], catch_exceptions=False
    )
    words = ["view", f"{url}/images.zarr", "--out", str(tmp_path / "image.png")]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0


def test_a_server_without_ranges_is_named_as_that_and_not_as_damage(folder: Path) -> None:
    for address in serve(folder, ranges=False):
        store = skelconv.open(f"{address}/out.zarr")
        with pytest.raises(RemoteError, match="Range requests"):
            _ = store[0].position
        with pytest.raises(RemoteError, match="Range requests"):
            verify(f"{address}/out.zarr")


def test_a_server_that_refuses_is_a_sentence(folder: Path) -> None:
    for address in serve(folder, broken="position/c"):
        with pytest.raises(RemoteError, match=r"could not read rows .*503"):
            _ = skelconv.open(f"{address}/out.zarr")[0].position


def test_damage_is_damage(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder / "out.zarr", tmp_path / "bad.zarr")
    shard = tmp_path / "bad.zarr/position/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    for address in serve(tmp_path):
        report = verify(f"{address}/bad.zarr")
        assert not report.ok
        assert "not a chunk" in report.describe()
        assert "not looked at" in report.describe()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["info", "http://127.0.0.1:1/out.zarr"], "found no zarr store there"),
        (["info", "nosuch://place/out.zarr"], "found no"),
        (["ingest", "ucla", "raw", "s3://bucket/out.zarr"], "expected a path on this machine"),
        (["ingest", "ucla", "s3://bucket/raw", "out.zarr"], "expected a path on this machine"),
        (["merge", "s3://bucket/out.zarr", "a.zarr", "b.zarr"], "expected a path on this machine"),
    ],
)
def test_urls_that_lead_nowhere_are_one_line(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(cli, words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
