"""The report as a reader meets it: opened from disk in headless Chromium with the network cut, looked at and operated."""

import base64
import json
import re
import shutil

import pytest

from eval import figures, words
from eval.report import write_report
from tests.eval.runs import write_log, write_manifest, write_run

HOSTILE = [
    "<script>window.hacked = true; document.title = 'hacked'</script>",
    '</script><img src=x onerror="window.hacked = true">',
    "broken \ud800 surrogate, null \x00, bell \x07, \u202eright to left\u202c end",
    "{{ 7 * 7 }} {% raw %} ``` | a | b | [link](javascript:alert(1))",
    "<!-- <style>body { display: none }</style> & &amp; \u2028 line",
    "",
]
KINDS = {"story": 0.0, "<b>lookup</b> | x": 0.0}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Ten models and 200 items a set, hostile outputs among them; the tenth was optimised on the reward model shown."""
    root = tmp_path_factory.mktemp("report")
    more = {"items": 220, "kinds": KINDS}
    folders = [write_run(root / "base", quality=0.3, outputs=HOSTILE, **more)]
    for i in range(1, 9):
        quality, is_tuned = 0.3 + 0.05 * i, i == 8
        folders.append(
            write_run(root / f"variant_{i}", quality=quality, parents=[folders[0]], optimised=is_tuned, **more)
        )
    write_manifest(
        root / "reward_model", parents=[folders[1]], notes={"quality": {"accuracy": 0.8, "text": HOSTILE[0]}}
    )
    folders.append(write_run(root / "ppo", quality=0.8, parents=[folders[4]], optimised=True, **more))
    sweep = [
        {"step": i, "kl_nats": i**2 / 4, "gold": 0.5 + i / 10 - i**2 / 60, "proxy": 0.5 + i / 8} for i in range(1, 8)
    ]
    write_log(root / "ppo", sweep)
    (root / "ppo" / "log.jsonl").open("a").write('{"step": 8, "kl_na')  # cut off by a crash
    order = [*folders[:2], root / "reward_model", *folders[2:]]
    return write_report(order, root, baseline=folders[0], aligned=folders[5:], command="python -m recipes.compare <x>")


@pytest.fixture(scope="module")
def browser():
    """Chromium through playwright; skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as engine:
        launched = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser, written):
    """The report in a window of 1280 x 900; any error or request for anything but the file fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened, problems = context.new_page(), []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: None if request.url == written.html.as_uri() else problems.append(request.url))
    opened.goto(written.html.as_uri())
    yield opened
    context.close()
    assert problems == []


def test_the_page_holds_every_part_and_its_screenshots_are_not_blank(page, tmp_path):
    said = page.inner_text("#verdict")
    assert (
        "of 8 models against what they came from 8 better, 0 worse, 0 no detectable difference; the largest change: "
        in said
    )
    parts = ["checks", "stages", "changes", "kinds", "matrix", "curves", "samples", "lineage", "settings", "cost"]
    for part in [*parts, "again"]:
        section = page.locator(f"section#{part}")
        section.screenshot(path=tmp_path / f"{part}.png")
        assert (tmp_path / f"{part}.png").stat().st_size > 4000, part
    assert page.locator("#stage-table tbody tr").count() == 10 + 4
    assert "optimised, not a benchmark" in page.inner_text("#matrix")
    assert page.locator("#kinds h3").all_inner_texts() == ["instructions/gold"]
    assert page.locator("#kinds tbody th").all_inner_texts() == ["<b>lookup</b> | x", "story"]
    assert page.locator("#kinds tbody .mark").count() == 2 * 9  # all but base have their parent beside them
    assert "1 seed: item noise only" in page.inner_text("#stages")
    assert "<x>" in page.inner_text("#again")


def test_hostile_model_output_is_shown_as_text(page):
    page.select_option("#f-set", "instructions")
    page.locator("#f-models input[value=base]").check()
    while page.locator("#more").is_visible():
        page.click("#more")
    assert page.evaluate("window.hacked") is None and "hacked" not in page.title()
    shown = page.inner_text("#sample-list")
    for text in (
        HOSTILE[0],
        HOSTILE[1],
        "broken \ufffd surrogate, null ␀, bell ␇, ⟨U+202E⟩right to left⟨U+202C⟩ end",
        "{{ 7 * 7 }}",
    ):
        assert text in shown
    assert "(nothing)" in shown
    assert page.locator("#sample-list script, #sample-list img, #sample-list style").count() == 0


def test_filters_find_where_a_is_right_and_b_wrong(page, written):
    data = json.loads(page.evaluate("document.getElementById('data').textContent"))
    page.select_option("#f-set", "town_qa")
    page.select_option("#f-score", "acc")
    page.select_option("#f-a", "ppo")
    page.select_option("#f-b", "base")
    for relation, test in {
        "right-wrong": lambda a, b: a == 1 and b == 0,
        "wrong-right": lambda a, b: a == 0 and b == 1,
        "both-wrong": lambda a, b: a == b == 0,
        "equal": lambda a, b: a == b,
        "any": lambda a, b: True,
    }.items():
        page.select_option("#f-relation", relation)
        pairs = [
            tuple(sample["outputs"][name]["scores"]["acc"] for name in ("ppo", "base"))
            for sample in data["samples"]
            if sample["set"] == "town_qa"
        ]
        expected = sum(test(a, b) for a, b in pairs)
        assert 0 < expected < 200 and page.inner_text("#f-count").startswith(f"{expected} of 200 items"), relation
    page.fill("#f-text", "ate fish 17")
    assert page.locator(".sample").count() == sum("ate fish 17" in s["prompt"] for s in data["samples"])


def test_lower_is_better_and_missing_scores_are_understood_by_the_filters(page):
    page.select_option("#f-set", "instructions")
    page.select_option("#f-score", "gold")
    page.select_option("#f-a", "ppo")
    page.select_option("#f-b", "base")
    page.select_option("#f-relation", "better")
    better = int(page.inner_text("#f-count").split()[0])
    page.select_option("#f-relation", "worse")
    assert better > 80 > int(page.inner_text("#f-count").split()[0])
    page.select_option("#f-score", "reward_model")  # only ppo has it
    assert page.inner_text("#f-count").startswith("0 of 200")


def test_ten_models_and_two_hundred_samples_stay_readable(page):
    assert page.inner_text("#f-count") == "200 of 200 items, the first 20 shown"
    assert page.locator(".sample").count() == 20
    page.click("#more")
    assert page.locator(".sample").count() == 40
    for box in page.locator("#f-models input").all():
        box.check()
    widths = page.evaluate(
        "[...document.querySelectorAll('.sample:first-child .answer')].map((e) => e.getBoundingClientRect().width)"
    )
    assert len(widths) == 11 and min(widths) > 240  # a reference and ten models, none squeezed
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.uncheck("#f-models input[value=variant_3]")
    assert "variant_3" not in page.locator(".sample").first.inner_text()


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_scroll_tables_and_never_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    left = page.evaluate(
        "() => { const box = document.querySelector('#stage-table').parentElement; box.scrollLeft = 300;"
        " return document.querySelector('#stage-table tbody th').getBoundingClientRect().left - box.getBoundingClientRect().left }"
    )
    assert 0 <= left < 3  # however far the table is scrolled, the model's name stays in sight


def contrast(page, selector: str) -> float:
    """WCAG contrast of an element's text against the first opaque background behind it."""
    return page.eval_on_selector(
        selector,
        """(node) => {
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          const linear = (v) => (v <= 10.0164 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4);
          const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
          const behind = (element) => getComputedStyle(element).backgroundColor;
          let back = node;
          while (back.parentElement && parse(behind(back))[3] === 0) back = back.parentElement;
          const [a, b] = [light(parse(getComputedStyle(node).color)), light(parse(behind(back)))];
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }""",
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_both_have_contrast_and_the_switch_turns_one_into_the_other(page, scheme):
    page.emulate_media(color_scheme=scheme)
    for selector in (
        "#verdict",
        ".lead",
        "#stage-table td small",
        "#stage-table .better",
        ".sample .text",
        "thead small",
    ):
        assert contrast(page, selector) >= 4.5, selector
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_changes_can_be_read_against_the_parent_or_the_baseline(page):
    cell = page.locator("#stage-table tr", has_text="ppo").locator("td").nth(1)
    against_parent = cell.inner_text()
    page.select_option("#against", "baseline")
    assert cell.inner_text() != against_parent
    assert page.locator("#stage-table .to-parent").first.is_hidden()


def test_the_page_asks_nothing_of_the_network_and_holds_its_data(written):
    text = written.html.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", text.split('<script type="application/json"')[0])
    embedded = text.split('id="data">')[1].split("</script>")[0]
    assert "<" not in embedded
    data = json.loads(embedded)
    assert len(data["models"]) == 10 and len(data["samples"]) == 200 and data["baseline"] == "base"


def test_markdown_holds_the_same_numbers_and_keeps_hostile_output_inside_its_fences(written):
    text = written.markdown.read_text(encoding="utf-8")
    value = written.comparison.cell("ppo", "instructions/gold")["value"]
    assert words.number(value) in text and "smallest detectable" in text
    (table,) = written.comparison.by_kind
    assert f"| story | 110 | {words.number(table['cells']['story']['base']['value'])} [" in text
    outside, inside, fence = [], [], None
    for line in text.splitlines():
        if fence is None and (opened := re.fullmatch(r"(`{3,})text", line)):
            fence = opened[1]
        elif fence is not None and line == fence:
            fence = None
        else:
            (outside if fence is None else inside).append(line)
    assert fence is None
    assert any("window.hacked" in line for line in inside) and not any("window.hacked" in line for line in outside)
    tables = [line for line in outside if line.startswith("|")]
    assert len(tables) > 50 and all(line.endswith("|") for line in tables)


def test_the_same_files_give_the_same_bytes(written, tmp_path):
    folders = [record.folder for record in written.comparison.records]
    options = {"baseline": folders[0], "title": "t", "command": "c"}
    first = write_report(folders, tmp_path / "a", **options)
    second = write_report(folders, tmp_path / "b", **options)
    assert (
        first.html.read_bytes() == second.html.read_bytes()
        and first.markdown.read_bytes() == second.markdown.read_bytes()
    )


def test_a_model_that_could_not_be_measured_and_a_checkpoint_from_elsewhere_have_their_rows(tmp_path):
    good = write_run(tmp_path / "good", quality=0.5)
    broken = write_run(tmp_path / "broken", quality=0.5)
    evaluation = json.loads((broken / "eval.json").read_text())
    failure = "broken can't be measured: 3 of 3 scores are not finite"
    (broken / "eval.json").write_text(json.dumps(evaluation | {"metrics": [], "failure": failure}))
    foreign = write_run(tmp_path / "foreign", quality=0.6)
    (foreign / "manifest.json").unlink()
    (foreign / "log.jsonl").unlink()
    text = write_report([good, broken, foreign], tmp_path).html.read_text()
    assert failure in text and "foreign" in text


def test_a_single_model_and_an_empty_log_make_a_report(tmp_path):
    only = write_run(tmp_path / "only", quality=0.5)
    (only / "log.jsonl").write_text("")
    written = write_report([only], tmp_path)
    assert written.verdict.startswith("One model, nothing to compare it with.")
    assert "No model here has its parent beside it." in written.html.read_text()


def test_tables_that_a_stage_measured_of_itself_are_shown_as_text(tmp_path):
    """A category's name comes from the data: it is escaped on the page, and cannot end a Markdown cell."""
    table = {
        "title": "Accuracy",
        "text": "Length bias.",
        "columns": ["kind", "pairs"],
        "rows": [["<b>a</b> | x", "12"]],
    }
    base = write_run(tmp_path / "base", quality=0.3, items=4)
    write_manifest(tmp_path / "reward_model", parents=[base], notes={"tables": [table]})
    report = write_report([base, tmp_path / "reward_model"], tmp_path)
    page, text = report.html.read_text(encoding="utf-8"), report.markdown.read_text(encoding="utf-8")
    assert "reward_model: Accuracy" in page and "Length bias." in page and "&lt;b&gt;a&lt;/b&gt; | x" in page
    assert "<b>a</b>" not in page and "<b>a</b> | x" not in text
    assert "### reward\\_model: Accuracy" in text or "### reward_model: Accuracy" in text
    (row,) = [line for line in text.splitlines() if line.endswith("| 12 |")]
    assert row.count(" | ") == 1


def test_figures_of_a_stage_are_embedded_as_images_that_run_nothing_and_come_from_its_own_folder(tmp_path):
    base = write_run(tmp_path / "base", quality=0.3, items=4)
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    (tmp_path / "secret.svg").write_text("<svg>secret</svg>")
    named = [{"title": "<b>curve</b>", "file": "a.svg"}, {"title": "outside", "file": "../secret.svg"}]
    write_manifest(
        tmp_path / "sweep", parents=[base], notes={"figures": [*named, {"title": "no", "file": "log.jsonl"}]}
    )
    (tmp_path / "sweep" / "a.svg").write_text(drawing)
    (tmp_path / "sweep" / "log.jsonl").write_text("")
    page = write_report([base, tmp_path / "sweep"], tmp_path).html.read_text(encoding="utf-8")
    (source,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)"', page)
    assert base64.b64decode(source).decode() == drawing and "alert(1)" not in page
    assert "sweep: &lt;b&gt;curve&lt;/b&gt;" in page and "<b>curve" not in page


def test_gold_and_proxy_are_drawn_against_the_root_of_kl(written):
    text = written.html.read_text()
    chart = next(svg for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL) if "score against √KL" in svg)
    assert chart.count("<polyline") == 2 and "√KL, √nats" in chart


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (2, 2, None), (0.93, 1.01, [0.92, 0.94, 0.96, 0.98, 1, 1.02]), (-30, 5000, None)],
)
def test_ticks_are_round_and_enclose_the_data(low, high, expected):
    ticks = figures.nice_ticks(low, high)
    assert expected is None or ticks == pytest.approx(expected)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8


def test_curves_leave_out_what_is_no_number_and_thin_out_long_logs():
    log = [{"step": i, "loss": float("nan") if i == 3 else 1 / (i + 1), "kl": None} for i in range(5000)]
    (chart,) = figures.curve_panels("base", log)
    assert "nan" not in chart and len(chart) < 8000


def test_numbers_read_as_a_person_writes_them():
    values = [None, 0, 0.12345, 12.34, 123456.0, 0.00001]
    assert [words.number(v) for v in values] == ["–", "0.000", "0.123", "12.3", "1.23e+05", "1.00e-05"]
    assert [words.signed(v) for v in (0.5, -0.5, 0)] == ["+0.500", "−0.500", "0.000"]
    assert (words.p_value(0.0001), words.seconds(150), words.gib(2**30)) == ("< 0.001", "2.5 min", "1.00 GiB")
    assert words.count(12345) == "12\u202f345"
    assert words.markdown_cell("a|b\n`c`") == "a\\|b \\`c\\`"
    assert words.fence("```\nx").startswith("````text\n")
