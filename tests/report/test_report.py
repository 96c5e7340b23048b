"""The report of a run, of a sweep, of a search: what it says, what it warns of, what it needs."""

import html
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import copied, remembered
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import lfads_lightning as lfads
from lfads_lightning.api import train_sessions
from lfads_lightning.cli import report as command
from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.alignment import carried_alignment
from lfads_lightning.data.loading import load_data
from lfads_lightning.data.sessions import Session, Split, sessions_from_arrays
from lfads_lightning.evaluation.table import LFADS, MEANS, EvaluationTable, Part
from lfads_lightning.inference.posterior import Posterior
from lfads_lightning.metrics import null_nll
from lfads_lightning.params import dotted_names, from_flat
from lfads_lightning.report import about, findings, run_report, write_report
from lfads_lightning.report.curves import learning_curves
from lfads_lightning.report.findings import (
    bits_of_training,
    of_comparison,
    of_data,
    of_posterior,
    of_run,
    used_share,
    variation,
)
from lfads_lightning.report.page import Section, Table, write_page
from lfads_lightning.report.population import components
from lfads_lightning.report.search_figure import parallel_coordinates, varied
from lfads_lightning.report.search_report import write_sweep_report
from lfads_lightning.runs.run import Run

SIZES = {
    "gen_dim": 6,
    "factors_dim": 3,
    "ic_dim": 4,
    "co_dim": 1,
    "ic_enc_dim": 5,
    "ci_enc_dim": 5,
    "con_dim": 6,
    "kl_increase_steps": 0,
    "l2_increase_steps": 0,
    "device": "cpu:0",
    "recipe": "original",
}
FIGURES = {
    "learning_curves",
    "summary",
    "averages",
    "neurons",
    "factors",
    "initial_conditions",
    "generator",
    "inferred_inputs",
    "inputs_at_event",
    "samples",
}


class Page(HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text = [], path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory, counts):
    """A run on two sessions in files, one with a name that is no HTML."""
    folder = tmp_path_factory.mktemp("work")
    truth = np.random.default_rng(1).uniform(0.5, 2, counts.shape)
    for name in ("a", "b<script>"):
        lfads.write_session(
            folder / "data" / f"toy_{name}.h5",
            train_data=counts,
            valid_data=counts[:6],
            train_truth=truth,
            valid_truth=truth[:6],
            train_condition=np.arange(12) % 3,
            valid_condition=np.arange(6) % 3,
            bin_width_s=0.01,
            window_s=[-0.03, 0.05],
        )
    config = {"data_dir": str(folder / "data"), "data_filename_stem": "toy", "max_epochs": 3}
    made = from_flat(SIZES | config)
    train_sessions(made, load_data(made), folder / "run")
    return folder


def test_report_holds_all_of_the_run_in_one_file(run):
    folder = run / "run"
    page = Page(folder / "report.html")
    images = page.all("img")
    assert {i["id"].removeprefix("figure-") for i in images} == FIGURES
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert len(image["alt"]) > 30
        assert int(image["width"]) > 400
    outside = re.findall(r'(?:src|href)="(?!data:|#|figures/)([^"]*)"', page.text)
    assert outside == []
    assert not page.all("script")
    scores = json.loads((folder / "scores.json").read_text())
    assert f"{scores['valid/bits_per_spike']:.3f}" in page.text
    for shown in ("model.gen_dim", "constant rate", "smoothing", "torch", "10 ms"):
        assert shown in page.text
    assert len(page.all("caption")) + len(page.all("summary")) == len(page.all("table")) >= 6
    assert [page.all(h) != [] for h in ("h1", "h2", "h3")] == [True] * 3
    for name in FIGURES:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_report_can_be_sent(run):
    """It says of which data it is, and no folder; nothing in it leads to files beside it."""
    page = Page(run / "run" / "report.html")
    title = re.search("<h1>(.*)</h1>", page.text).group(1)
    assert re.fullmatch(r"LFADS: a, b&lt;script&gt;, \d+ [A-Z][a-z]+ 20\d\d", title)
    assert str(run) not in page.text
    assert str(run.parent) not in page.text
    assert "…/data" in page.text  # data.data_dir, a setting
    assert all(a["href"].startswith("#") for a in page.all("a"))


def test_report_says_what_was_chosen_and_why(run, tmp_path, monkeypatch):
    folder = copied(run / "run", tmp_path / "run")
    row = {"updates": 180, "seconds": 9.5, "is_chosen": False}
    tried = [
        row | {"name": "one_input", "settings": {"co_dim": 1}, "criterion": 588.04},
        row
        | {"name": "fast_inputs", "settings": {"co_dim": 4}, "criterion": 585.3, "is_chosen": True},
        row | {"name": "no_inputs", "settings": {"co_dim": 0}, "criterion": None},
        *(
            row
            | {"name": f"rate_{rate}", "settings": {"learning_rate_init": rate}}
            | {"criterion": criterion, "updates": 1200, "is_chosen": rate == 0.016}
            for rate, criterion in ((0.004, 580.5), (0.016, 571.2))
        ),
    ]
    (folder / "tried.json").write_text(json.dumps(tried))
    state = json.loads((folder / "report.json").read_text())
    state["chosen"] = {"facts": "12 training trials", "settings": {"keep_prob": 0.9, "<b>": 1}}
    (folder / "report.json").write_text(json.dumps(state))
    monkeypatch.setattr(write_report, "_inferred", lambda trained: "No data.")  # nothing to draw
    command.main([str(folder)])
    text = (folder / "report.html").read_text()
    criterion = Run(folder).read_config().trainer.criterion.name
    assert (
        f"Structure: fast_inputs (co_dim 4). Of the structures tried it had the lowest {criterion} "
        "after 180 updates: 585.3; then one_input 588, no_inputs –."
    ) in text
    assert (
        "Learning rate: rate_0.016 (learning_rate_init 0.016). Of the learning rates tried it had "
        f"the lowest {criterion} after 1200 updates: 571.2; then rate_0.004 580.5."
    ) in text
    rates = text[text.index("<caption>Learning rates that were tried") :]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rates[: rates.index("</table>")])
    assert [c for c in cells if c.startswith("learning")] == [
        "learning_rate_init 0.016", "learning_rate_init 0.004",
    ]  # fmt: skip
    assert "Settings: 1 of them by recipe=auto, for 12 training trials." in text
    table = text[text.index("<caption>Structures that were tried") :]
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", table[: table.index("</table>")])
    assert cells[6:12] == ["fast_inputs", "co_dim 4", "585.3", "180", "9.5", "chosen"]
    assert cells[-4:] == ["not finite", "180", "9.5", "–"]
    assert "&lt;b&gt;" not in text  # no parameter
    assert json.loads((folder / "report.json").read_text())["chosen"]["settings"] == {
        "keep_prob": 0.9
    }


def test_names_of_the_user_are_escaped(run):
    text = (run / "run" / "report.html").read_text()
    assert "<script" not in text
    assert "b&lt;script&gt;" in text


def test_several_sessions_have_their_own_scores(run):
    text = (run / "run" / "report.html").read_text()
    table = text[text.index("<caption>LFADS, each session") :]
    table = table[: table.index("</table>")]
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["a", "b&lt;script&gt;"]


def test_aligned_sessions_have_the_check_of_their_alignment():
    """Of matrices that fit, the bars are high; of random ones they are not."""
    rng = np.random.default_rng(0)
    course = rng.normal(size=(3, 8, 2)).cumsum(1)  # conditions, bins, components
    course -= course.mean((0, 1))
    sessions, bad = [], []
    for name in ("a", "b"):
        mixing = np.linalg.qr(rng.normal(size=(6, 2)))[0]
        rates = np.repeat(course @ mixing.T + 20, 4, axis=0)
        split = Split(rates, condition=np.repeat(np.arange(3), 4))
        sessions.append(Session(name, split, None, mixing, rates.mean((0, 1))))
        other = np.linalg.qr(rng.normal(size=(6, 2)))[0]
        bad.append(Session(name, split, None, other, rates.mean((0, 1))))
    good = carried_alignment(sessions, smoothing_bins=0)
    assert min(good.components_r2.values()) == pytest.approx(1)
    np.testing.assert_allclose(good.components, course, atol=1e-6)
    np.testing.assert_allclose(good.projections["b"], course, atol=1e-6)
    assert max(carried_alignment(bad, smoothing_bins=0).components_r2.values()) < 0.9
    drawing = run_report._alignment(sessions)
    assert drawing.name == "alignment"
    assert run_report._alignment(sessions[:1]) is None
    without = [Session(s.name, s.train._replace(condition=None)) for s in sessions]
    assert run_report._alignment(without) is None


@pytest.mark.slow
def test_report_is_written_anew_from_files_and_data(run, tmp_path, capsys):
    folder = copied(run / "run", tmp_path / "run")
    before = Page(folder / "report.html")
    (folder / "report.html").unlink()
    started = time.process_time()
    command.main([str(folder)])
    # of the processor, which counts double where another program has the core's other half
    assert time.process_time() - started < 30
    assert capsys.readouterr().out == f"Report: {folder / 'report.html'}\n"
    after = Page(folder / "report.html")
    # the same numbers, tables and findings; figures of the same trials
    plain = [re.sub(r"base64,[^\"]*", "", page.text) for page in (before, after)]
    assert plain[0].replace(str(run / "run"), str(folder)) == plain[1]


def test_report_is_made_without_the_data_and_says_so(run, tmp_path):
    folder = copied(run / "run", tmp_path / "run")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace(str(run / "data"), str(tmp_path / "gone")))
    remembered(folder)
    command.main([str(folder)])
    page = Page(folder / "report.html")
    assert [i["id"] for i in page.all("img")] == ["figure-learning_curves"]
    assert "The data could not be read" in page.text
    assert "few_trials" in page.text  # as training found


@pytest.mark.slow
def test_report_copes_with_damaged_files_of_the_run(run, tmp_path, capsys, short_reports):
    folder = copied(run / "run", tmp_path / "run")
    for name in ("evaluation.json", "report.json"):
        (folder / name).write_text("[" * 100_000)
    with (folder / "metrics.csv").open("ab") as file:
        file.write(b"\xff\xfe,1\n7," + b"1" * 200_000 + b"\n")
    command.main([str(folder)])
    (folder / "scores.json").write_text("[" * 100_000)
    with pytest.raises(SystemExit, match="2"):
        command.main([str(folder)])
    assert "scores.json: is not JSON" in capsys.readouterr().err


@pytest.mark.slow
def test_no_table_is_empty_where_the_scores_are_not_there(run, tmp_path, short_reports):
    folder = copied(run / "run", tmp_path / "run")
    assert "All scores" in (folder / "report.html").read_text()
    (folder / "scores.json").unlink()
    (folder / "evaluation.json").unlink(missing_ok=True)
    command.main([str(folder)])
    assert "All scores" not in (folder / "report.html").read_text()


def test_report_of_a_run_from_python_has_no_data_later(tmp_path, counts):
    lfads.fit(counts, lfads_save_dir=str(tmp_path / "run"), max_epochs=1, report=False, **SIZES)
    command.main([str(tmp_path / "run")])
    assert "The data were given in Python" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("what", ["none", "empty", "no_checkpoint", "sweep", "search"])
def test_folder_without_a_result_is_one_clear_error(tmp_path, capsys, new_config, what):
    folder = tmp_path / what
    expected = {
        "none": "no such folder",
        "empty": "contains no run",
        "no_checkpoint": "has no checkpoint",
        "sweep": "no job of this sweep has begun",
        "search": "no generation of this search has ended",
    }
    if what != "none":
        folder.mkdir()
    if what in ("no_checkpoint", "search"):
        Run(folder).write_config(new_config())
    if what == "sweep":
        (folder / "sweep.yaml").write_text("argv: []\ncwd: /\n")
    if what == "search":
        (folder / "search.json").write_text("{}")
    with pytest.raises(SystemExit) as end:
        command.main([str(folder)])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ")
    assert expected[what] in error
    assert error.count("\n") == 1


def test_evaluation_is_the_score_table_where_it_is_there(run, tmp_path, monkeypatch):
    folder = copied(run / "run", tmp_path / "run")
    evaluation = {
        "a": {"valid": {"LFADS": {"co_bps": 0.125}, "smoothing <5>": {"co_bps": 0.0625}}},
        "notes": {"co_bps": "whatever somebody wrote"},
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    monkeypatch.setattr(write_report, "_inferred", lambda trained: "No data.")  # nothing to draw
    command.main([str(folder)])
    text = (folder / "report.html").read_text()
    assert "smoothing &lt;5&gt;" in text
    assert "0.125" in text
    assert "LFADS is ahead of the simple methods: 0.125 bits/spike of held-out neurons" in text
    assert "whatever somebody wrote" not in text


# --- sweeps and searches ---


@pytest.fixture
def short_reports(reports, monkeypatch):
    """Let each run end with a report that takes no time."""

    def write(trained, *args):
        (trained.folder / "report.html").write_text("short")

    monkeypatch.setattr("lfads_lightning.report.finish._report", write)


def test_sweep_has_a_report_of_its_jobs(run, call, tmp_path, short_reports):
    words = [f"data.data_dir={run / 'data'}", "data.data_filename_stem=toy"]
    words += [f"{lfads_name(n)}={v}" for n, v in SIZES.items()]
    result = call("-m", *words, "trainer.max_epochs=1", "seed=0,1", f"hydra.sweep.dir={tmp_path}/s")
    assert result.code == 0, result.err
    assert f"Report: {tmp_path}/s/report.html" in result.out
    lines = [line for line in result.out.splitlines() if line.startswith("job ")]
    assert [line.split(" | ")[0] for line in lines] == ["job 0", "job 1"]
    page = Page(tmp_path / "s" / "report.html")
    assert {i["id"] for i in page.all("img")} == {
        "figure-parallel_coordinates",
        "figure-against_settings",
    }
    links = {a["href"] for a in page.all("a")}
    assert {"0/report.html", "1/report.html"} <= links
    ranks = re.findall(r'<th scope="row">(\d+)</th>', page.text)
    assert ranks == ["1", "2"]
    command.main([str(tmp_path / "s")])


def lfads_name(flat):
    return dotted_names()[flat]


def test_search_has_a_report_of_its_members(new_config, counts, tmp_path, short_reports):
    space = tmp_path / "space.yaml"
    space.write_text("optim.learning_rate_init: {min: 0.001, max: 0.1}")
    sizes = {"algorithm": "pbt", "population": 3, "generation_epochs": 1, "burn_in_epochs": 1}
    config = new_config(space=str(space), max_generations=2, num_workers=1, report=True, **sizes)
    sessions = sessions_from_arrays(
        {"a": counts}, {"a": counts[:6]}, output_dist="poisson", ext_input_dim=0, factors_dim=3
    )
    train_sessions(config, sessions, tmp_path / "search")
    page = Page(tmp_path / "search" / "report.html")
    assert {i["id"] for i in page.all("img")} == {"figure-search", "figure-parallel_coordinates"}
    assert "best/report.html" in {a["href"] for a in page.all("a")}
    assert (tmp_path / "search" / "best" / "report.html").is_file()
    assert (tmp_path / "search" / "figures" / "search.png").stat().st_size > 10_000
    for member in range(3):
        assert f"member {member}" in page.text
    plan = json.loads((tmp_path / "search" / "search.json").read_text())["generations"][-1]
    for member, settings in enumerate(plan["settings"]):
        events = EventAccumulator(str(tmp_path / f"search/members/{member:02d}/tensorboard"))
        events.Reload()
        data = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        shown = HParamsPluginData.FromString(data).session_start_info.hparams
        rate = shown["optim.learning_rate_init"].number_value
        assert rate == pytest.approx(settings["learning_rate_init"])
        score = shown[f"final/valid_{config.trainer.criterion.name}"].number_value
        assert score == pytest.approx(plan["scores"][member], rel=1e-5)
        assert not any(tag.startswith("final/") for tag in events.Tags()["scalars"])
    (tmp_path / "search" / "report.html").unlink()
    command.main([str(tmp_path / "search")])
    assert (tmp_path / "search" / "report.html").is_file()


def test_settings_that_differ_are_the_axes():
    settings = [
        {"a": 1, "b": "x", "c": 5},
        {"a": 100, "b": "y", "c": 5},
        {"a": 10, "b": "x", "c": 5},
    ]
    assert varied(settings) == ["a", "b"]
    drawing = parallel_coordinates(settings, [3.0, 1.0, float("inf")], "total")
    (axes,) = drawing.figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "total"]
    lines = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 3]
    assert len(lines) == 2  # the third has no score
    assert [list(line) for line in lines] == [[0, 0, 1], [1, 1, 0]]  # best drawn last
    assert parallel_coordinates(settings[:1], [1.0], "total") is None


def test_a_sweep_without_jobs_has_no_report(tmp_path):
    with pytest.raises(LFADSError, match="no job of this sweep has begun"):
        write_sweep_report(tmp_path)


# --- findings ---


def posterior(**arrays):
    return Posterior(**dict.fromkeys(Posterior._fields) | arrays)


def keys(found):
    return {f.key for f in found}


def columns(n=100, **changed):
    """A training that went well."""
    epochs = np.arange(n)
    base = {"epoch": epochs, "ramp/kl": np.minimum(epochs / 10, 1), "lr": np.full(n, 0.01)}
    base["ramp/l2"] = base["ramp/kl"]
    for split in ("train", "valid"):
        for term in ("total", "recon"):
            base[f"{split}/{term}"] = 100 + 50 * np.exp(-epochs / 5.0)
        base |= {f"{split}/kl_ic": np.full(n, 5.0), f"{split}/kl_co": np.full(n, 5.0)}
    return {k: np.asarray(v, float) for k, v in (base | changed).items()}


def test_a_good_run_is_not_spoken_ill_of():
    rng = np.random.default_rng(0)
    rates = rng.gamma(2, 0.5, (60, 40, 10))
    scores = {"valid/bits_per_spike": 0.3, "valid/truth_bits_per_spike": 0.31}
    scores |= {"valid/seen_bits_per_spike": 0.3, "valid/hidden_bits_per_spike": 0.29}
    config = Config()
    made = posterior(
        rates=rates,
        gen_states=rng.normal(0, 1, (60, 40, 5)),
        controller_outputs=rates[..., :1],
        controller_outputs_sd=np.full((60, 40, 1), 0.1),
    )
    assert of_run(config, scores, columns()) == []
    assert of_posterior(config, scores, {"a": made}, [], columns()) == []
    assert of_data([Session("a", Split(np.ones((60, 8, 5))), Split(np.ones((20, 8, 5))))]) == []


def test_underfit_is_called_so():
    rng = np.random.default_rng(0)
    time_course = rng.gamma(2, 0.5, (1, 40, 10))
    same = posterior(rates=np.repeat(time_course, 30, 0), gen_states=np.zeros((30, 40, 5)))
    config = Config()
    config.model.co_dim = 0
    found = of_posterior(config, {"valid/bits_per_spike": 0.2}, {"a": same}, [], columns())
    assert keys(found) == {"underfit"}
    assert "nearly the same in every trial" in found[0].title
    alive = posterior(rates=rng.gamma(2, 0.5, (30, 40, 10)), gen_states=np.zeros((30, 40, 5)))
    poor = {"valid/bits_per_spike": 0.1, "valid/truth_bits_per_spike": 0.9}
    assert keys(of_posterior(config, poor, {"a": alive}, [], columns())) == {"underfit"}
    fair = poor | {"valid/bits_per_spike": 0.5}
    assert of_posterior(config, fair, {"a": alive}, [], columns()) == []
    # a training score that is good: it has learned too much of these trials, not too little
    counts = rng.poisson(0.5, (30, 40, 10))
    session = Session("a", Split(counts), Split(counts[:8]))
    null = null_nll(counts) / len(counts)
    spikes = counts.sum() / len(counts)
    for bits, expected in ((0.3, set()), (0.0, {"underfit"})):
        recon = np.full(100, null - bits * spikes * np.log(2))
        learned = columns(**{"train/recon": recon})
        assert bits_of_training(config, [session], learned) == pytest.approx(bits, abs=1e-9)
        poor = {"valid/bits_per_spike": -0.4}
        assert keys(of_posterior(config, poor, {"a": same}, [session], learned)) == expected


def test_overfitting_is_seen_whenever_it_began():
    """Within the ramps too; by a rise, or by training trials that are explained far better."""
    rising = np.concatenate([np.linspace(120, 100, 30), np.linspace(100, 130, 70)])
    ramp = {"ramp/kl": np.linspace(0, 0.5, 100), "ramp/l2": np.linspace(0, 0.5, 100)}
    found = of_run(Config(), {}, columns(**{"valid/recon": rising}, **ramp))
    assert keys(found) == {"overfitted"}
    assert "lowest in epoch 30" in found[0].text
    noise = np.random.default_rng(0).normal(0, 0.5, 100)
    assert of_run(Config(), {}, columns(**{"valid/recon": 100 + noise}, **ramp)) == []
    counts = np.random.default_rng(0).poisson(0.5, (30, 40, 10))
    session = Session("a", Split(counts), Split(counts))
    null, spikes = null_nll(counts) / 30, counts.sum() / 30
    flat = {"valid/recon": np.full(100, null), "train/recon": np.full(100, null - 0.3 * spikes)}
    found = of_run(Config(), {}, columns(**flat, **ramp), [session])
    assert keys(found) == {"overfitted"}
    assert "reached 0.433 bits/spike on training trials and 0.000 on" in found[0].text


def test_a_simple_method_that_is_ahead_and_means_that_differ_are_found():
    rows = {
        LFADS: {"co_bps": 0.1},
        MEANS: {"co_bps": -0.2},
        "smoothing": {"co_bps": 0.3},
        "constant rate": {"co_bps": -0.01},
    }
    table = EvaluationTable([Part("a", "valid", rows, {}, {})])
    found = {f.key: f for f in of_comparison(table, "valid")}
    assert found.keys() == {"simple_ahead", "means_differ"}
    assert "smoothing has 0.300" in found["simple_ahead"].text
    assert "-0.200" in found["means_differ"].text
    rows[LFADS]["co_bps"] = -0.1
    assert keys(of_comparison(table, "valid")) == {"simple_ahead", "below_constant", "means_differ"}
    rows[LFADS]["co_bps"], rows[MEANS]["co_bps"] = 0.4, 0.39
    assert of_comparison(table, "valid") == []


def test_a_run_without_an_eligible_epoch_is_told():
    scores = {"chosen_by": "valid/recon_smoothed"}
    assert keys(of_run(Config(), scores, columns())) == {"not_eligible"}
    assert of_run(Config(), {"chosen_by": "valid/total"}, columns()) == []


def test_unused_inputs_and_initial_conditions_are_named():
    rng = np.random.default_rng(0)
    inputs = np.stack([rng.normal(0, 1, (30, 40)), np.full((30, 40), 0.2)], -1)
    made = posterior(
        rates=rng.gamma(2, 0.5, (30, 40, 10)),
        gen_states=np.zeros((30, 40, 5)),
        controller_outputs=inputs,
        controller_outputs_sd=np.full((30, 40, 2), 0.5),
    )
    sd = made.controller_outputs_sd
    np.testing.assert_allclose(used_share(inputs, sd, 0), [0.8, 0], atol=0.02)
    # averages over samples scatter, which says nothing of the data
    scattered = inputs + rng.normal(0, 0.5 / 4, inputs.shape)
    np.testing.assert_allclose(used_share(scattered, sd, 16), [0.8, 0], atol=0.02)
    config = Config()
    config.model.co_dim = 2
    still = columns(**{"valid/kl_ic": np.zeros(100)})
    config.sampling.num_score_samples = 0
    found = {f.key: f for f in of_posterior(config, {}, {"a": made}, [], still)}
    assert found.keys() == {"unused_inputs", "unused_ic"}
    assert found["unused_inputs"].title.startswith("1 of 2")
    assert "input 1 " in found["unused_inputs"].text
    assert "model.co_dim=1" in found["unused_inputs"].remedy


@pytest.mark.parametrize("what", ["states", "rates"])
def test_saturated_clamps_are_seen(what):
    rng = np.random.default_rng(0)
    rates, states = rng.gamma(2, 0.5, (30, 40, 10)), rng.normal(0, 1, (30, 40, 5))
    if what == "states":
        states[:, :, 0] = -5.0
    else:
        rates[0, 0, 0] = np.exp(80)
    config = Config()
    config.model.co_dim = 0
    found = of_posterior(
        config, {}, {"a": posterior(rates=rates, gen_states=states)}, [], columns()
    )
    assert "saturated" in keys(found)
    assert "clamped" in found[-1].title
    assert what in found[-1].title


def test_copying_is_seen_in_the_scores_and_from_the_message():
    scores = {"valid/seen_bits_per_spike": 0.5, "valid/hidden_bits_per_spike": 0.1}
    assert keys(of_run(Config(), scores, columns())) == {"copying"}
    honest = scores | {"valid/hidden_bits_per_spike": 0.45}
    assert of_run(Config(), honest, columns()) == []
    said = findings.copying(f"the model copies the spikes it sees: so it is; {findings.REMEDY}")
    assert said.text.startswith("So it is. ")
    assert said.remedy.startswith("Use coordinated dropout")


def test_training_that_ended_too_soon_is_seen():
    config = Config()
    falling = 100 - 0.5 * np.arange(100)
    costs = {f"{s}/{t}": falling for s in ("train", "valid") for t in ("total", "recon")}
    assert of_run(config, {}, columns(**costs)) == []  # nothing says that it has ended
    config.trainer.max_epochs = 100
    assert keys(of_run(config, {}, columns(**costs))) == {"still_falling"}
    assert of_run(config, {}, columns()) == []
    low = {"lr": np.full(100, 1e-5)}
    assert keys(of_run(Config(), {}, columns(**low, **costs))) == {"rate_stopped"}
    ramp = {"ramp/kl": np.full(100, 0.5)}
    assert keys(of_run(Config(), {}, columns(**low, **ramp))) == {"rate_stopped"}
    assert of_run(Config(), {}, columns(**low)) == []
    bad = np.full(100, 100.0)
    bad[7] = np.nan
    found = of_run(Config(), {}, columns(**{"train/total": bad}))
    assert keys(found) == {"not_finite"}
    assert "epoch 7" in found[0].text


def test_silent_neurons_and_few_trials_are_seen():
    data = np.ones((20, 8, 5))
    data[..., 3] = 0
    found = of_data([Session("a", Split(data), Split(data[:4]))])
    assert [f.key for f in found] == ["silent", "few_trials", "few_valid"]
    assert "(3, counted from 0)" in found[0].text
    assert "20 training trials" in found[1].text


# --- numbers behind figures ---


def test_components_are_those_of_the_singular_values():
    states = np.random.default_rng(0).normal(size=(6, 7, 4)) * [3, 2, 1, 0.5]
    scores, axes, shares = components(states, 2)
    flat = states.reshape(-1, 4) - states.reshape(-1, 4).mean(0)
    u, s, vt = np.linalg.svd(flat, full_matrices=False)
    np.testing.assert_allclose(shares, s**2 / (s**2).sum(), rtol=1e-9)
    np.testing.assert_allclose(np.abs(axes.T @ vt[:2].T), np.eye(2), atol=1e-8)
    np.testing.assert_allclose(np.square(scores).sum((0, 1)), s[:2] ** 2, rtol=1e-9)


def test_variation_is_that_over_trials():
    rates = np.ones((4, 6, 2)) * np.array([1.0, 2.0])
    rates[::2, :, 1] = 3.0
    np.testing.assert_allclose(variation(rates), [0, 0.5 / 2.5])


def test_curves_come_from_a_damaged_table_too(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,train/total,train/recon,ramp/kl,ramp/l2,lr,grad_norm\n"
        "0,5,4,0,0,0.01,1\n1,4,,1,1,0.01,1\n2,3,2.5,1"
    )
    read = Run(tmp_path).read_metrics()
    np.testing.assert_array_equal(read["train/recon"], [4, np.nan, 2.5])
    assert np.isnan(read["lr"][2])
    assert learning_curves(read, None) is not None
    assert learning_curves(Run(tmp_path / "none").read_metrics(), None) is None


def test_page_escapes_every_text(tmp_path):
    bad = '<img src=x onerror="alert(1)">&'
    finding = findings.Finding(*[bad] * 4)
    table = Table(bad, (bad,), [(bad,)])
    write_page(tmp_path / "p.html", bad, [bad], [], [Section("a", bad, [bad], [finding], [table])])
    text = (tmp_path / "p.html").read_text()
    assert "<img" not in text
    assert html.escape(bad).replace("&quot;", "&#34;") in text


def test_record_of_a_run_comes_back(tmp_path):
    record = about.Record({"a": "b"}, [findings.Finding("k", "t", "x", "r")])
    about.write_record(tmp_path, record)
    assert about.read_record(tmp_path) == record
    Run(tmp_path).report_record.write_text("[")
    assert about.read_record(tmp_path) == about.Record({}, [])
