"""Values that are not what they seem: noticed by lfads prepare, lfads check, training, writing."""

import re

import h5py
import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning.config import LFADSError
from lfads_lightning.data.values import mark_of_missing, step_between
from lfads_lightning.recordings.findings import check_file

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(RNG.uniform(0.2, 2, 10), (30, 40, 10))
TRACES = RNG.normal(size=(30, 40, 10)).astype(np.float32)


def with_mark(mark, dtype):
    array = COUNTS.astype(dtype)
    array[3, 30:] = mark
    return array


def noted(tmp_path, **arrays):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, value in arrays.items():
            file[key] = value
    (found,) = check_file(tmp_path / "a.h5")
    return " | ".join(found.faults + found.cautions)


@pytest.mark.parametrize(
    ("mark", "dtype"),
    [(-1, int), (-1, float), (255, np.uint8), (-9999, np.int16), (65535, np.uint16), (9999, int)],
)
def test_marks_of_what_is_missing(tmp_path, mark, dtype):
    array = with_mark(mark, dtype)
    text = f"{mark} in 100 of 12000 entries, first at \\[3, 30, 0\\]"
    with pytest.raises(LFADSError, match=f"counts holds {text}.*NaN"):
        lfads.prepare({"counts": array}, tmp_path, name="a", source_bin_width_s=0.01)
    if mark < 0:
        with pytest.raises(LFADSError, match=f"train_data holds {mark} in 100 of 9600 entries"):
            lfads.fit(array, lfads_save_dir=tmp_path / "run", max_epochs=1)
    assert f"{mark} in 100 of 12000" in noted(tmp_path, train_data=array, valid_data=COUNTS)


@pytest.mark.parametrize(
    "array",
    [COUNTS, TRACES, TRACES - 1, np.minimum(COUNTS * 100, 255), np.where(COUNTS > 0, 1, 0),
     np.round(TRACES), np.full((2, 3, 4), 255), np.zeros((2, 3, 4)), COUNTS * np.nan],
)  # fmt: skip
def test_no_mark(array):
    assert mark_of_missing(array) is None


@pytest.mark.parametrize("width", [0.01, 0.02, 0.03])
def test_spikes_per_second(tmp_path, width):
    rates = COUNTS / width
    told = f"all values are multiples of {1 / width:.6g}.*"
    for more in ({"source_bin_width_s": width}, {}):
        with pytest.warns(UserWarning, match=f"{told}divide the values by {1 / width:.6g}"):
            lfads.prepare({"counts": rates}, tmp_path, name="b", **more)
    text = noted(tmp_path, train_data=rates, valid_data=rates, bin_width_s=width)
    assert f"multiples of {1 / width:.6g}" in text
    if width == 0.03:  # the others are whole numbers
        with pytest.raises(LFADSError, match=f"{told}multiply by the bin width"):
            lfads.fit(rates, lfads_save_dir=tmp_path / "run")


@pytest.mark.parametrize("array", [COUNTS, TRACES, np.round(np.abs(TRACES), 2), COUNTS > 0])
def test_no_step(array):
    assert step_between(array, 0.01) is None


def test_counts_with_fractions_are_no_real_values(tmp_path):
    some = COUNTS.astype(float)
    some[2, 3, 4] = 1.5
    with pytest.raises(LFADSError, match=r"1.5 at \[2, 3, 4\].*as counts are; fix the others"):
        lfads.prepare({"counts": some}, tmp_path, name="a")
    with pytest.raises(LFADSError, match="whole numbers but for rounding errors; round them"):
        lfads.prepare({"counts": COUNTS * (1 + 1e-6)}, tmp_path, name="a")
    assert "expected whole counts" in noted(tmp_path, train_data=some)


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (0.001, "the median rate is 1.*e.03 Hz|the median rate is 1[0-9]{3} Hz"),
        (20.0, "the highest rate is only 0.09"),
    ],
)
def test_implausible_rates(tmp_path, width, text):
    with pytest.warns(UserWarning, match=text):
        lfads.prepare({"counts": COUNTS}, tmp_path, name="b", source_bin_width_s=width)
    assert re.search(text, noted(tmp_path, train_data=COUNTS, bin_width_s=width))


def test_camera_values_are_hardly_counts(tmp_path):
    raw = RNG.integers(300, 900, (30, 40, 10))
    with pytest.warns(UserWarning, match="spikes per bin; if these are not counts, but fluor"):
        lfads.prepare({"counts": raw}, tmp_path, name="a")


def test_channels_of_other_scales_and_constant_ones(tmp_path):
    odd = TRACES.copy()
    odd[..., 4] *= 1000
    with pytest.warns(UserWarning, match="channels differ in scale.*others: 4"):
        lfads.prepare({"counts": odd}, tmp_path, name="a")
    assert "channels differ in scale" in noted(tmp_path, train_data=odd)
    with pytest.warns(UserWarning, match="channels differ in scale"):
        lfads.write_session(tmp_path / "w.h5", train_data=odd)
    odd = TRACES.copy()
    odd[..., 2], odd[..., 6] = 0, 3.5
    with pytest.raises(LFADSError, match="2 channels are constant: 2, 6; .*min_rate_hz"):
        lfads.prepare({"counts": odd}, tmp_path, name="a")
    made = lfads.prepare({"counts": odd}, tmp_path, name="a", min_rate_hz=0.1)
    # a negative mean is no low rate
    assert lfads.read_session(made).neuron_ids.tolist() == [0, 1, 3, 4, 5, 7, 8, 9]
    assert "2 channels are constant (2, 6)" in noted(tmp_path, train_data=odd)


def masked():
    return np.ma.masked_array(COUNTS, COUNTS > 3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: [np.ones((8, 50 + k % 3), int) for k in range(20)],
            "have 50 to 52 columns; .*give .x.T for x in trials",
        ),
    ],
)
def test_arrays_that_would_lose_something(tmp_path, make, text, trained):
    with pytest.raises(LFADSError, match=text):
        lfads.fit(make(), lfads_save_dir=tmp_path / "run")
    with pytest.raises(LFADSError, match=text):
        lfads.write_session(tmp_path / "a.h5", train_data=make())
    for method in (trained.posterior_push_mean, trained.posterior_sample_and_average):
        with pytest.raises(LFADSError, match=text):
            method(make())


def test_what_is_masked_is_missing_in_what_prepare_writes(tmp_path):
    with pytest.warns(UserWarning, match="entries that the mask hides are missing"):
        made = lfads.prepare({"counts": masked()}, tmp_path, name="a", min_rate_hz=0)
    with h5py.File(made) as file:
        shown = np.zeros(masked().shape, bool)
        for split in ("train", "valid"):
            shown[file[f"{split}_inds"][()]] = file[f"{split}_mask"][()].astype(bool)
    np.testing.assert_array_equal(shown, ~np.ma.getmaskarray(masked()))


def test_a_mask_that_hides_nothing_is_no_loss(tmp_path):
    lfads.write_session(tmp_path / "a.h5", train_data=np.ma.masked_array(COUNTS, False))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return lfads.fit(
        COUNTS, lfads_save_dir=tmp_path_factory.mktemp("run") / "a", max_epochs=1, report=False,
        device="cpu:0",
        recipe="original", gen_dim=4, factors_dim=2, ic_enc_dim=4, ci_enc_dim=4, con_dim=4,
    )  # fmt: skip
