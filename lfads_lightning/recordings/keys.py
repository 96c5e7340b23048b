"""The keys of a prepared session file besides the keys of a session.

``SPLIT`` stands for train, valid and test. The keys of a session are in `data/fields.py`; its
reader ignores these.
"""

KEYS = {
    "test_…": ("", "the keys of the test split, as those of training and validation above"),
    "behaviour_names": ("K", "names of the behaviours"),
    "SPLIT_trial_ids": ("E", "the source's own names of these trials"),
    "SPLIT_chop_starts": ("E", "first bin of each chop, counted over the whole recording"),
    "n_recording_bins": ("scalar", "bins of the whole recording, its pieces end to end"),
    "chop_overlap_bins": ("scalar", "bins that neighbouring chops share"),
    "segment_starts": ("S", "first bin of each unbroken piece of the recording"),
    "segment_starts_s": ("S", "the same on the source's clock"),
    "source": ("text", "the file that the recording came from"),
    "left_out": ("texts", "trials and neurons that were left out, and why"),
    "settings": ("text", "every option of lfads prepare, as YAML"),
    "version": ("text", "the lfads-lightning that wrote the file"),
}
SPLITS = ("train", "valid", "test")


def table() -> str:
    """Return these keys as a Markdown table, for the documentation."""
    rows = [f"| `{key}` | {shape} | {what} |" for key, (shape, what) in KEYS.items()]
    return "\n".join(["| key | shape | |", "|---|---|---|", *rows])
