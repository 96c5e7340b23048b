"""What figures of the report say: marks along time and at neurons, scores against samples."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from conftest import TINY
from matplotlib.axes import Axes

import lfads_lightning as lfads
from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.metrics import co_bps
from lfads_lightning.report import samples_figure
from lfads_lightning.report.behaviour import behaviour_drawing
from lfads_lightning.report.inputs import within_variance
from lfads_lightning.report.population import drawings_of
from lfads_lightning.report.style import Drawing, new_figure, render, styled
from lfads_lightning.report.trials import shown_trials

# --- figures around an event ---


def over_time(drawings):
    """The axes whose x axis is time, by figure."""
    axes = {
        d.name: [a for a in d.figure.axes if a.get_xlabel().startswith("time")] for d in drawings
    }
    return {name: some for name, some in axes.items() if some}


def marks(ax):
    """Where dashed lines from bottom to top stand that are edged in white."""
    lines = [x for x in ax.lines if x.get_path_effects() and list(x.get_ydata()) == [0, 1]]
    return [x.get_xdata()[0] for x in lines]


@pytest.fixture(scope="module")
def around_event(counts, tmp_path_factory):
    """Figures of trials from 30 ms before an event to 50 ms after it, and the trials."""
    folder = str(tmp_path_factory.mktemp("run"))
    trained = lfads.fit(counts, max_epochs=1, lfads_save_dir=folder, **TINY | {"co_dim": 1})
    (name,) = trained.sessions
    split = Split(counts, condition=np.arange(12) % 3)

    def draw(**changed):
        given = {"bin_width_s": 0.01, "window_s": np.array([-0.03, 0.05])} | changed
        trials = shown_trials(trained.evaluation(), Session(name, split, **given), "train")
        return trials, drawings_of(trials)

    return draw


def test_event_is_marked_wherever_time_is_an_axis(around_event):
    trials, drawings = around_event()
    np.testing.assert_allclose(trials.time, np.arange(-0.025, 0.05, 0.01))
    assert trials.ends == pytest.approx((-0.03, 0.05))
    assert trials.event_bin == 3
    found = over_time(drawings)
    assert set(found) == {"summary", "averages", "generator", "inferred_inputs", "inputs_at_event"}
    for name, axes in found.items():
        for ax in axes:
            assert ax.get_xlabel() == "time from the event (s)", name
            assert marks(ax) == [0.0], name
            assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1], name
    named, (first, *_) = around_event(event=f"$\\cue$ at {'x' * 50}")  # no formula, and cut short
    assert named.time_label == f"time from $\\cue$ at {'x' * 19}… (s)"
    assert render(first).png
    captions = {d.name: d.caption for d in drawings}
    assert all("Dashed: the event, which" in captions[name] for name in found)
    factors = next(d for d in drawings if d.name == "factors")
    assert "a diamond at the event" in factors.figure.axes[0].get_title()


def test_no_name_is_a_formula():
    """Neither in what is drawn at once nor in ticks, which are made when a figure is saved."""

    @styled
    def draw():
        figure = new_figure(3, 3)
        ax = figure.subplots()
        ax.plot([1, 1e4], [1, 1e4], label="$m_{$")
        ax.set(title="$a_{$", xlabel="a $\\frac$ b", xscale="log", yscale="log")
        ax.legend()
        return Drawing("x", "x", figure, "x", "x")

    drawing = draw()
    assert render(drawing).png
    ax = drawing.figure.axes[0]
    assert "1000" in [t.get_text() for t in ax.get_xticklabels()]
    assert not any("$" in t.get_text() for t in [*ax.get_xticklabels(), *ax.get_yticklabels()])


@pytest.mark.parametrize(
    ("changed", "label", "bin_"),
    [
        ({"window_s": None}, "time (s)", None),
        ({"bin_width_s": None}, "time (bins)", None),
        ({"window_s": np.array([0.02, 0.1])}, "time from the event (s)", None),  # begins after it
        ({"window_s": np.array([0.0, 0.08])}, "time from the event (s)", 0),
    ],
)
def test_no_event_is_marked_where_none_is_known(around_event, changed, label, bin_):
    trials, drawings = around_event(**changed)
    assert trials.event_bin == bin_
    for axes in over_time(drawings).values():
        for ax in axes:
            assert ax.get_xlabel() == label
            assert marks(ax) == ([] if bin_ is None else [0.0])
    assert not any("a diamond" in ax.get_title() for d in drawings for ax in d.figure.axes)


def test_inputs_are_averaged_by_condition(around_event):
    trials, drawings = around_event()
    figure = next(d for d in drawings if d.name == "inputs_at_event").figure
    left, right = figure.axes
    inputs = trials.posterior.controller_outputs[..., 0]
    for k in range(3):
        (line,) = [x for x in left.lines if x.get_label() == str(k)]
        np.testing.assert_allclose(line.get_ydata(), inputs[k::3].mean(0), rtol=1e-5)
    (line,) = [x for x in right.lines if x.get_label() == "over trials"]
    # each condition has four trials: the mean of their unbiased variances
    by_hand = np.sqrt(np.mean([inputs[k::3].var(0, ddof=1) for k in range(3)], axis=0))
    np.testing.assert_allclose(line.get_ydata(), by_hand, rtol=1e-5)
    assert np.isnan(within_variance(inputs[:3], np.arange(3))).all()


# --- what the encoders never see ---


def test_predicted_bins_and_held_out_neurons_are_marked(counts, tmp_path):
    given = TINY | {"co_dim": 1, "held_out_neurons": [1, 4], "forward_steps": 2}
    trained = lfads.fit(counts, max_epochs=1, lfads_save_dir=str(tmp_path), **given)
    (name,) = trained.sessions
    session = Session(name, Split(counts), bin_width_s=0.01)
    trials = shown_trials(trained.evaluation(), session, "train")
    n_bins = counts.shape[1]
    last = ((n_bins - 2) * 0.01, n_bins * 0.01)
    assert trials.forward == pytest.approx(last)
    drawings = drawings_of(trials)
    for figure, axes in over_time(drawings).items():
        for ax in axes:
            bars = [p for p in ax.patches if p.get_y() == 1]
            ends = [(p.get_x(), p.get_x() + p.get_width()) for p in bars]
            assert ends == [pytest.approx(last)], figure
    captions = {d.name: d.caption for d in drawings}
    assert all("the last 2 bins, predicted" in captions[name] for name in over_time(drawings))
    by_name = {d.name: d.figure for d in drawings}
    for figure in ("summary", "averages"):  # of the neurons shown as lines, half are held out
        titles = {ax.get_title() for ax in by_name[figure].findobj(Axes)}
        assert {"neuron 1, held out", "neuron 4, held out"} < titles
        assert sum(t.startswith("neuron") and not t.endswith("held out") for t in titles) == 2
    raster = next(ax for ax in by_name["summary"].axes if ax.get_title() == "inferred rates")
    peaks = trials.posterior.rates[trials.median_trial].argmax(0)
    rows = np.flatnonzero(np.isin(np.argsort(peaks, kind="stable"), [1, 4]))
    np.testing.assert_array_equal(raster.lines[0].get_ydata(), rows)
    scattered = by_name["neurons"].axes[0].lines
    found = next(line for line in scattered if line.get_label() == "held out")
    np.testing.assert_allclose(found.get_xdata(), 100 * counts.mean((0, 1))[[1, 4]])


def test_inputs_beyond_the_seen_bins_are_not_correlated(counts, tmp_path):
    given = TINY | {"co_dim": 1, "forward_steps": 5}
    trained = lfads.fit(counts, max_epochs=1, lfads_save_dir=str(tmp_path), **given)
    (name,) = trained.sessions
    trials = shown_trials(trained.evaluation(), Session(name, Split(counts)), "train")
    figure = next(d for d in drawings_of(trials) if d.name == "inferred_inputs").figure
    ax = next(ax for ax in figure.axes if ax.get_ylabel() == "autocorrelation")
    inferred = next(x for x in ax.lines if x.get_label() == "inferred").get_ydata()
    assert len(inferred) == counts.shape[1] - 5
    values = trials.posterior.controller_outputs[:, :-5, 0].astype(np.float64)
    values -= values.mean()
    by_hand = (values[:, 1:] * values[:, :-1]).mean() / np.square(values).mean()
    assert inferred[1] == pytest.approx(by_hand, rel=1e-3)


def test_neither_is_marked_where_all_is_seen(around_event):
    trials, drawings = around_event()
    assert trials.forward is None
    for axes in over_time(drawings).values():
        assert not any(p.get_y() == 1 for ax in axes for p in ax.patches)
    assert not any("held out" in d.caption or "predicted" in d.caption for d in drawings)


# --- behaviour ---


@pytest.mark.parametrize("n_conditions", [0, 3])
def test_behaviour_is_decoded_as_the_score_decodes_it(counts, tmp_path, n_conditions):
    trained = lfads.fit(counts, max_epochs=1, lfads_save_dir=str(tmp_path), **TINY)
    (name,) = trained.sessions
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 2))
    splits = []
    for data in (counts, counts[::2]):
        label = np.arange(len(data)) % n_conditions if n_conditions else None
        behaviour = data @ mixing + rng.normal(size=(*data.shape[:2], 2))
        splits.append(Split(data, behaviour=behaviour, condition=label))
    session = Session(name, *splits)
    trials = shown_trials(trained.evaluation(), session, "valid")
    drawing = behaviour_drawing(trained.evaluation(), session, trials)
    table = trained.evaluate(session, metrics=["behaviour_r2"])
    panels = drawing.figure.axes[:2]
    shown = [float(ax.get_title(loc="right").removeprefix("R² ")) for ax in panels]
    assert np.mean(shown) == pytest.approx(table.summary()["valid/behaviour_r2"], abs=0.006)
    for k, ax in enumerate(panels):
        true, read = ax.lines[:2]
        assert (true.get_label(), read.get_label()) == ("true", "decoded")
        np.testing.assert_allclose(true.get_ydata(), splits[1].behaviour[0, :, k])
        assert not np.allclose(read.get_ydata(), true.get_ydata())
    if n_conditions:
        (legend,) = drawing.figure.subfigs[1].legends
        assert [t.get_text() for t in legend.get_texts()] == ["0", "1", "2"]
    without = Session(name, splits[0], splits[1]._replace(behaviour=None))
    assert behaviour_drawing(trained.evaluation(), without, trials) is None


# --- scores against the number of samples ---


class Asked(NamedTuple):
    """What a stub of inference was asked, and its answer."""

    rates: np.ndarray


@pytest.mark.parametrize("by", ["truth", "held-out", "hidden"])
def test_samples_are_scored_where_the_model_could_not_look(monkeypatch, by):
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.2, 2, (5, 6, 4))
    counts, seen = rng.poisson(rates), []

    def infer(run, name, split, shown=None):
        seen.append(split.data if shown is None else split.data * shown)
        return Asked(rates)

    def samples(run, name, split, n, shown=None):
        seen.append(split.data if shown is None else split.data * shown)
        return [rates] * n

    monkeypatch.setattr(samples_figure, "sampled_rates", samples)
    monkeypatch.setattr(samples_figure, "push_mean", infer)
    held_out = (1, 3) if by == "held-out" else ()
    spec = SimpleNamespace(held_out=held_out)
    run = SimpleNamespace(model=SimpleNamespace(sessions={"a": spec}), num_samples=16)
    trials = SimpleNamespace(
        numbers=np.arange(5), truth=rates if by == "truth" else None, is_counts=True, title="a"
    )
    session = Session("a", Split(counts))
    drawing = samples_figure.samples_drawing(run, session, "train", trials)
    (line, level) = drawing.figure.axes[0].lines
    score = line.get_ydata()
    assert (score == score[0]).all()
    assert level.get_ydata()[0] == score[0]
    label = drawing.figure.axes[0].get_ylabel()
    if by == "truth":
        assert score[0] == 1
        assert label.startswith("R²")
    elif by == "held-out":
        assert label == "bits / spike of held-out neurons"
        assert score[0] == pytest.approx(co_bps(rates, counts, [1, 3]), rel=1e-6)
    else:
        assert label == "bits / spike of hidden entries"
        hidden = seen[0] == 0
        assert 0.1 < (hidden & (counts > 0)).sum() / (counts > 0).sum() < 0.35
        np.testing.assert_allclose((seen[0] * 0.8)[~hidden], counts[~hidden], rtol=1e-6)
    assert all(np.array_equal(x, seen[0]) for x in seen)
    if by != "hidden":
        assert np.array_equal(seen[0], counts)
