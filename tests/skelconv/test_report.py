"""The report page: what it says of a store, its images and its runs; one file, offline."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from skelconv.report import charts
from skelconv.report.html import render_page
from skelconv.report.page import write_report
from skelconv.report.runs import RunFolderError, read_run
from skelconv.s2i.options import EncodeOptions
from skelconv.s2i.write import encode_store
from skelconv.store.store import Store
from skelconv.view.drawing import FAMILIES, SOLO
from tests.skelconv.scenes import body, recording
from tests.skelconv.stores import dataset, store_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    takes = [recording(body(range(9 + n), n), name=f"take{n}") for n in range(5)]
    return store_of(tmp_path / "raw.zarr", takes, dataset())


def run_folder(folder: Path, top1: float) -> Path:
    folder.mkdir()
    (folder / "metrics.csv").write_text("step,epoch,loss\n1,0.5,1.0\n2,1.0,0.5\n")
    seeds = [{"seed": 0, "top1": top1}]
    probe = {
        "data": {
            "protocol": "xsub", "train_samples": 3, "test_samples": 2, "classes": 3, "chance": 1 / 3,
            "majority": 0.5,
        },
        "encoders": {"trained": {"seeds": seeds}, "untrained": {"seeds": [{"seed": 0, "top1": 0.4}]}},
    }  # fmt: skip
    (folder / "probe.json").write_text(json.dumps(probe))
    return folder


def test_it_says_what_the_store_holds_and_asks_for_nothing_else(store: Store, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", store.path, title="A look")
    page = (tmp_path / "report.html").read_text()
    assert "<h1>A look</h1>" in page
    for fact in ("5", "55", "25 (ntu25)"):
        assert f"<b>{fact}</b>" in page
    assert "xsub 3 train, 2 test" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not list(tmp_path.glob("*.partial"))


def test_images_are_explained_by_their_channels(store: Store, tmp_path: Path) -> None:
    encode_store(store, tmp_path / "s2i.zarr", EncodeOptions(size=16))
    write_report(tmp_path / "report.html", store.path, tmp_path / "s2i.zarr")
    page = (tmp_path / "report.html").read_text()
    assert "red is x, green y, blue z" in page
    assert page.count('alt="S2I image of') == 5


def test_runs_show_their_curves_and_the_mean_of_their_probes(store: Store, tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / f"run{n}", top1) for n, top1 in enumerate((0.6, 0.7))]
    write_report(tmp_path / "report.html", store.path, None, runs)
    page = (tmp_path / "report.html").read_text()
    assert "<td>65.0 %</td>" in page
    assert "by\n    <b>25.0 ±" in page
    assert "run0" in page
    assert "run1" in page


@pytest.mark.parametrize("text", ["[]", "{}", '{"data": 3, "encoders": {}}', "nothing", '{"encoders": 7}'])
def test_a_probe_of_another_shape_is_named(text: str, store: Store, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 0.5)
    (run / "probe.json").write_text(text)
    with pytest.raises(RunFolderError, match="found a damaged table or probe"):
        read_run(run)


def test_a_folder_without_a_run_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"found no metrics\.csv"):
        write_report(tmp_path / "report.html", store.path, None, [tmp_path])
    assert not (tmp_path / "report.html").exists()


def test_colours_of_data_and_text_stand_out_from_the_cards_of_light_and_dark_pages() -> None:
    page = render_page("skelconv.report", "base.html.j2")
    blocks = re.findall(r":root \{ (--.*?)\}", page)
    modes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]
    assert len(modes) == 2
    for mode in modes:
        for colour in (*charts.COLOURS, *SOLO, *(colour for family in FAMILIES for colour in family)):
            # graphics: 3 (WCAG 2.1, 1.4.11)
            assert contrast(colour, mode["card"]) >= 3, (colour, mode["card"])
        for paper in ("card", "paper"):
            # text: 4.5 (WCAG 2.1, 1.4.3)
            assert contrast(mode["soft"], mode[paper]) >= 4.5


def test_text_of_charts_takes_the_colour_of_the_page() -> None:
    chart = charts.curves({"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "epoch", "loss")
    assert charts.INK not in chart.replace(f"var(--soft, {charts.INK})", "")
    assert "var(--soft" in chart


def test_names_in_bars_cannot_become_markup() -> None:
    assert "<img" not in charts.bars({"<img src=x>": 3.0}, "<b>")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to load the page in")
def test_on_a_phone_nothing_is_wider_than_the_screen(store: Store, tmp_path: Path) -> None:
    encode_store(store, tmp_path / "s2i.zarr", EncodeOptions(size=16))
    runs = [run_folder(tmp_path / f"run{n}", top1) for n, top1 in enumerate((0.6, 0.7))]
    write_report(tmp_path / "report.html", store.path, tmp_path / "s2i.zarr", runs, "A-long-title-" * 9)
    inner = (tmp_path / "report.html").read_text().replace("&", "&amp;").replace('"', "&quot;")
    (tmp_path / "page.html").write_text(
        f'<body><iframe id="phone" width="390" height="800" srcdoc="{inner}"></iframe><script>'
        "addEventListener('load', () => setTimeout(() => { "
        "const page = document.getElementById('phone').contentDocument.documentElement; "
        "document.body.dataset.wide = page.scrollWidth - page.clientWidth; }, 300));</script></body>"
    )
    command = (
        *(
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--virtual-time-budget=1500",
        ),
        *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"),
        (tmp_path / "page.html").as_uri(),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.search(r'data-wide="(\d+)"', done.stdout)[1] == "0"


def contrast(one: str, other: str) -> float:
    """Contrast of two colours ``#rrggbb``, as WCAG 2.1 defines it."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)
    return max(lights) / min(lights)
