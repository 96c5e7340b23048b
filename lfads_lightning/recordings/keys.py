"""What a prepared session file holds beside the counts: the one table of these keys.

``SPLIT`` stands for train, valid and test. E trials, T bins, D neurons, K behaviours. The reader of
sessions takes those that `data/sessions.py` lists, and leaves the others aside.
"""

KEYS = {
    "bin_width_s": ("scalar", "bin width, seconds"),
    "neuron_ids": ("D", "the source's names of the neurons"),
    "held_out_neurons": ("H", "columns of neurons to hold out, counted from 0"),
    "behaviour_names": ("K", "names of the behaviours"),
    "SPLIT_behaviour": ("E×T×K", "behaviour, averaged within each bin"),
    "SPLIT_condition": ("E", "condition labels, text or numbers"),
    "SPLIT_inds": ("E", "trial (or chop) of the source, counted from 0"),
    "SPLIT_trial_ids": ("E", "the source's own names of these trials"),
    "SPLIT_event_times_s": ("E", "the event aligned to, on the source's clock"),
    "SPLIT_chop_starts": ("E", "first bin of each chop, counted over the whole recording"),
    "n_recording_bins": ("scalar", "bins of the whole recording, its pieces end to end"),
    "chop_overlap_bins": ("scalar", "bins that neighbouring chops share"),
    "segment_starts": ("S", "first bin of each unbroken piece of the recording"),
    "segment_starts_s": ("S", "the same on the source's clock"),
    "test_data": ("E×T×D", "counts of the test split"),
    "source": ("text", "the file that the recording came from"),
    "event": ("text", "what trials are aligned to"),
    "window_s": ("2", "first and last moment of a trial, seconds from the event"),
    "left_out": ("texts", "trials and neurons that were left out, and why"),
    "settings": ("text", "every option of lfads-prepare, as YAML"),
    "version": ("text", "the lfads-lightning that wrote the file"),
}
SPLITS = ("train", "valid", "test")


def table() -> str:
    """Return the rows of the README's table."""
    rows = [f"| `{key}` | {shape} | {what} |" for key, (shape, what) in KEYS.items()]
    return "\n".join(["| key | shape | |", "|---|---|---|", *rows])
