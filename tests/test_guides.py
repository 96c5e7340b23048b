"""The commands of guides about data are run, in their order, on small files."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from small_runs import SMALL

import lfads_lightning as lfads
from lfads_lightning import cli

GUIDE = Path(__file__).parents[1] / "docs/guide"
PAGES = ("preparing", "calcium-and-emg", "session-files", "several-sessions")
# other tests have files of these kinds: test_neo.py
SKIPPED = ("lfads prepare day1.nev", "lfads prepare neuralynx_folder/")
CHEAP = re.compile(r"lfads prepare \S+\.(npy|npz|csv) ")
RNG = np.random.default_rng(0)
END, STARTS = 60.0, 1.0 + 1.9 * np.arange(30)
TIMES = np.sort(RNG.uniform(0, END, 6000)).round(4) + 3e-6
UNITS = RNG.integers(0, 6, 6000)
COUNTS = RNG.poisson(0.6, (30, 25, 6))
TRIALS = {
    "start_time": STARTS, "stop_time": STARTS + 1.5, "go_cue": STARTS + 0.4, "cue": STARTS + 0.4,
    "go": STARTS + 0.4, "stimulus": STARTS + 0.6, "go_cue_time": STARTS + 0.4,
    "move_onset_time": STARTS + 0.5, "rt": 100.0 + 10 * np.arange(30),
    "success": np.arange(30) % 9 > 0, "aborted": np.arange(30) % 7 == 0,
    "side": np.array(["left", "right"])[np.arange(30) % 2],
    "split": np.array(["train", "train", "val"])[np.arange(30) % 3],
}  # fmt: skip


def commands(page):
    """Return the commands of a page, one a line, continued ones joined."""
    text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n((?:.*\n)*?)```$", text, re.M)
    lines = re.sub(r" *\\\n *", " ", "\n".join(blocks)).splitlines()
    return [line for line in lines if line.startswith("lfads ") and not line.startswith(SKIPPED)]


def table(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))


def write_arrays_and_tables():
    np.save("counts.npy", COUNTS)
    velocity = RNG.normal(size=(30, 25, 2))
    np.savez("counts.npz", counts=COUNTS, target=np.arange(30) % 3, velocity=velocity)
    np.save("long.npy", RNG.poisson(0.6, (6, 1200)))
    np.save("traces.npy", RNG.gamma(2, 1, (2000, 6)))
    table(Path("trials.csv"), TRIALS)
    table(Path("spikes_trials.csv"), TRIALS)
    table(Path("spikes.csv"), {"unit": UNITS, "time": TIMES})
    Path("headless.csv").write_text(Path("spikes.csv").read_text().partition("\n")[2])
    named = {f"n{d}": COUNTS[..., d].ravel() for d in range(6)}
    place = {"trial": np.repeat(np.arange(30), 25), "time": np.tile(np.arange(25), 30) / 50}
    table(Path("counts.csv"), place | named)


def write_matlab():
    from scipy.io import savemat

    raster = RNG.poisson(0.02, (30, 6, 600)).astype(float)
    rows = np.array([(raster[k], k % 3) for k in range(30)],
                    [("spikeRaster", object), ("target", object)])  # fmt: skip
    savemat("R.mat", {"R": rows})
    savemat("dat.mat", {"dat": np.array([(x,) for x in raster], [("spikes", object)])})
    savemat("sorted.mat", {"spike_times": TIMES, "spike_units": UNITS})
    events = RNG.gamma(2, 1, (6, 1800)) * (RNG.random((6, 1800)) < 0.3)
    savemat("traces.mat", {"NEURAL": events})


def write_folders():
    for name in ("sorted", "kilosort4"):
        folder = Path(name)
        folder.mkdir()
        np.save(folder / "spike_times.npy", np.floor(TIMES * 25_000).astype(np.uint64))
        np.save(folder / "spike_clusters.npy", UNITS.astype(np.int32))
        table(folder / "cluster_groups.csv", {"cluster_id": range(6), "group": ["good"] * 6})
        (folder / "params.py").write_text("sample_rate = 25000.\n")
    alf = Path("KS014/2019-12-03/001/alf")
    alf.mkdir(parents=True)
    arrays = {
        "spikes.times": TIMES, "spikes.clusters": UNITS,
        "trials.intervals": np.stack([STARTS, STARTS + 1.5], axis=1),
        "trials.stimOn_times": STARTS + 0.4, "trials.choice": np.arange(30) % 2,
        "trials.contrastLeft": np.arange(30) % 3 / 4,
        "wheel.position": np.sin(np.arange(6000) / 100), "wheel.timestamps": np.arange(6000) / 100,
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(alf / f"{name}.npy", array)


def write_nwb():
    pynwb = pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    from datetime import datetime, timezone

    from test_nlb import write_file

    for day in ("day1.nwb", "day2.nwb"):
        nwb = pynwb.NWBFile("made up", "id", datetime(2020, 1, 1, tzinfo=timezone.utc))
        for name in ("quality", "region"):
            nwb.add_unit_column(name, name)
        for unit in range(6):
            nwb.add_unit(
                spike_times=TIMES[UNITS == unit], id=11 + unit, quality="good", region="M1"
            )
        columns = {name: c for name, c in TRIALS.items() if name not in ("start_time", "stop_time")}
        for name in columns:
            nwb.add_trial_column(name, name)
        for k, start in enumerate(STARTS):
            row = {name: column[k].item() for name, column in columns.items()}
            nwb.add_trial(start_time=start, stop_time=start + 1.5, **row)
        wave = np.sin(np.arange(6000) / 100)
        nwb.add_acquisition(pynwb.TimeSeries(name="hand_vel", unit="m/s", data=wave, rate=100.0))
        with pynwb.NWBHDF5IO(day, "w") as io:
            io.write(nwb)
    folder = Path("000128/sub-Jenkins")
    folder.mkdir(parents=True)
    write_file(folder / "sub-Jenkins_ses-full_desc-train_behavior+ecephys.nwb")


def write_sessions(page):
    Path("data").mkdir()
    for name in ("monkey_day1", "monkey_day2", "new"):
        counts = RNG.poisson(0.6, (30, 25, 24))
        if page in ("session-files", "several-sessions"):
            lfads.write_session(
                f"data/{name}.h5", train_data=counts[:24], valid_data=counts[24:],
                train_condition=np.arange(24) % 8, valid_condition=np.arange(6), bin_width_s=0.02,
            )  # fmt: skip
    events = RNG.gamma(2, 1, (20, 25, 6)) * (RNG.random((20, 25, 6)) < 0.3)
    lfads.write_session("calcium.h5", train_data=events[:15], valid_data=events[15:])


def words_of(line):
    """Return the words of a command as a shell would hand them over, a training kept small."""
    words = []
    for word in shlex.split(line)[1:]:
        is_pattern = "*" in word and "/" in word
        words += sorted(map(str, Path().glob(word))) if is_pattern else [word]
    if words[0] != "train" or "kind=" in line:
        return words
    given = {word.partition("=")[0] for word in words}
    small = [word for word in SMALL if word.partition("=")[0] not in given]
    if "optim.start_from" in line:  # sizes come with the run
        small = [word for word in small if not word.startswith("model.")]
    folder = [] if "output.lfads_save_dir" in given else ["output.lfads_save_dir=RUN"]
    if "start_from" in line:
        folder = ["output.lfads_save_dir=MORE"]
    small = [*small, "trainer.max_epochs=1", "output.report=false"]
    return [*words, *small, *folder]


def run(line, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lfads", *words_of(line)])
    GlobalHydra.instance().clear()
    try:
        code = cli.main()
    except SystemExit as end:
        code = end.code
    assert code in (0, None), line


@pytest.mark.filterwarnings("ignore:.*begin 1.9 s after each other")
def test_the_cheapest_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_arrays_and_tables()
    lines = [line for page in PAGES for line in commands(page) if CHEAP.match(line)]
    assert len(lines) >= 8
    for line in dict.fromkeys(lines):
        run(line, monkeypatch)  # warnings are errors
        name = Path(shlex.split(line)[2]).stem
        session = lfads.read_session(f"data/{name}.h5")
        assert session.train.data.any(), line
        assert session.valid is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "recordings"))
    monkeypatch.chdir(tmp_path)
    write_sessions(page)
    if page in ("preparing", "calcium-and-emg"):
        write_arrays_and_tables()
        write_matlab()
        write_folders()
        write_nwb()
    lines = commands(page)
    assert len(lines) >= 3
    for line in lines:
        run(line, monkeypatch)
