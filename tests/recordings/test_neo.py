"""Files of recording systems, read through neo: units, events, epochs, and damaged ones."""

import struct

import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.readers import neo as reader

pytest.importorskip("neo", reason="needs the extra [neo]")

RNG = np.random.default_rng(0)
RATE = 40_000
TIMES = [np.sort(RNG.integers(0, 60 * RATE, n)) for n in (1500, 900, 2000)]
STARTS = (RATE * (1.0 + 1.9 * np.arange(30))).astype(int)
OPTIONS = {"bin_width_s": 0.02, "align_to": "cue", "window_s": (-0.2, 0.6)}


def nex(path, times=TIMES):
    """Write a NeuroExplorer file, byte by byte: units (and one that never fires), cues, trials."""
    variables = [(0, f"sig00{k + 1}a", [t]) for k, t in enumerate(times)]
    variables += [(0, "sig009a", [np.zeros(0, int)]), (1, "cue", [STARTS + RATE // 2])]
    variables.append((2, "trials", [STARTS, STARTS + RATE]))
    head, body = b"", b""
    for kind, name, arrays in variables:
        values = b"".join(a.astype("<i4").tobytes() for a in arrays)
        at = 544 + 208 * len(variables) + len(body)
        head += struct.pack(
            "<2i64s6i2d2d3i2d52s", kind, 100, name.encode(), at, len(arrays[0]), 0, 0, 0, 0,
            0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0, 0.0, b"",
        )  # fmt: skip
        body += values
    first = struct.pack("<4si256sd3i", b"NEX1", 104, b"", RATE, 0, 60 * RATE, len(variables))
    path.write_bytes(first.ljust(544, b"\0") + head + body)
    return path


def nse(folder):
    """Write a folder of Neuralynx: one electrode, units 0 (unsorted) and 1."""
    folder.mkdir()
    header = (
        "######## Neuralynx Data File Header\r\n## File Name C:\\SE1.nse\r\n"
        "## Time Opened (m/d/y): 1/2/2020  (h:m:s.ms) 10:20:30.400\r\n"
        "## Time Closed (m/d/y): 1/2/2020  (h:m:s.ms) 10:30:30.400\r\n"
        "-FileType Spike\r\n-FileVersion 3.3.0\r\n-RecordSize 112\r\n-CheetahRev 5.6.3\r\n"
        "-AcqEntName SE1\r\n-NumADChannels 1\r\n-ADChannel 0\r\n-SamplingFrequency 32000\r\n"
        "-ADBitVolts 6.1e-08\r\n-InputRange 1000\r\n-DspHighCutFrequency 6000\r\n"
    )
    rows = np.zeros(900, np.dtype("<u8,<u4,<u4,(8,)<u4,(32,)<i2"))
    rows["f0"] = np.sort(RNG.integers(5_000_000, 65_000_000, 900))  # µs
    rows["f2"] = np.arange(900) % 3 % 2
    (folder / "SE1.nse").write_bytes(header.encode().ljust(16384, b"\0") + rows.tobytes())
    return folder, rows


def test_units_around_events(tmp_path, capsys):
    path = nex(tmp_path / "a.nex")
    words = [str(path), "--out", str(tmp_path), "--bin-width-s", "0.02", "--window-s", "-0.2"]
    assert main([*words, "0.6", "--align-to", "cue"]) == 0
    session = lfads.read_session(tmp_path / "a.h5")
    assert session.neuron_ids.tolist() == ["sig001a", "sig002a", "sig003a"]
    for e in (0, 9, 20):
        cue = STARTS[session.train.inds[e]] + RATE // 2
        edges = cue + np.arange(-8000, 24001, 800)  # samples: whole numbers, no rounding
        expected = [np.histogram(t, edges - 0.5)[0] for t in TIMES]
        np.testing.assert_array_equal(session.train.data[e], np.transpose(expected))
    assert main([*words, "0.6", "--align-to", "cues"]) == 1
    assert "align-to" in capsys.readouterr().err
    for trials in ([], ["--trials", "trials"]):
        assert main([*words[:5], *trials]) == 0
    assert lfads.read_session(tmp_path / "a.h5").n_bins == 50
    assert main([*words[:5], "--trials", "trails"]) == 1
    assert "has no epochs trails; expected one of trials" in capsys.readouterr().err


def test_a_folder_of_neuralynx(tmp_path):
    folder, rows = nse(tmp_path / "day")
    options = {"bin_width_s": 0.1, "chop_bins": 20}
    session = lfads.read_session(lfads.prepare(folder, tmp_path, **options))
    assert session.data_dim == 2
    chosen = {"unit_quality": "sorted"}
    session = lfads.read_session(lfads.prepare(folder, tmp_path, **options, **chosen))
    assert session.data_dim == 1
    n = session.train.data.sum() + session.valid.data.sum()
    assert 0.95 * (rows["f2"] == 1).sum() <= n <= (rows["f2"] == 1).sum()


def test_without_neo(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "find_spec", lambda name: None)
    with pytest.raises(LFADSError, match=r'pip install "lfads-lightning\[neo\]"'):
        lfads.prepare(nex(tmp_path / "a.nex"), tmp_path, **OPTIONS)


def test_nothing_in_it(tmp_path):
    path = nex(tmp_path / "a.nex", [])
    with pytest.raises(LFADSError, match=r"holds no spikes \(1 units are declared\)"):
        lfads.prepare(path, tmp_path, **OPTIONS)
    for suffix in (".nev", ".plx"):
        (tmp_path / f"b{suffix}").write_bytes(b"hello")
        with pytest.raises(LFADSError, match="cannot be read by neo") as error:
            lfads.prepare(tmp_path / f"b{suffix}", tmp_path, **OPTIONS)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [3, pytest.param(250, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused(tmp_path, n):
    path = nex(tmp_path / "a.nex")
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = []
    for k in range(n):
        content = bytearray(whole)
        for _ in range(1 + k % 5):
            content[rng.integers(0, 544 + 208 * 6)] = rng.integers(0, 256)
        path.write_bytes(content[: rng.integers(544, len(content))] if k % 4 == 3 else content)
        try:
            lfads.prepare(path, tmp_path, min_rate_hz=0, **OPTIONS)
        except LFADSError as error:
            refused.append(str(error))
    assert len(refused) >= n // 10
    assert not any("\n" in text for text in refused)
