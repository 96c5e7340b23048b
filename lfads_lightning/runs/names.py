"""What files in the folders of runs, searches and sweeps are called; nobody else spells them."""

CONFIG = "config.yaml"
METRICS = "metrics.csv"
SCORES, EVALUATION = "scores.json", "evaluation.json"
UNFINISHED_SCORES = "scoring.json"
REPORT, REPORT_RECORD = "report.html", "report.json"
CHECKPOINTS, FIGURES, TENSORBOARD = "checkpoints", "figures", "tensorboard"
RESULTS, WEIGHTS = "model_runs", "model_params"
SUBMISSION = "nlb_submission"  # to the Neural Latents Benchmark
RESULT_PREFIXES = (
    f"{RESULTS}_",
    WEIGHTS,
    SUBMISSION,
)  # a run may write into the folder of its data
JOURNAL, HISTORY = "search.json", "history.csv"
MEMBERS, BEST = "members", "best"
TRIED, TRIED_RECORD = "tried", "tried.json"
COMMAND, RANKING = "sweep.yaml", "results.csv"
JOB, ERROR = "job.yaml", "error.txt"
ALIGNMENT = "alignment.png"  # of lfads-align, beside the session files


def checkpoint_name(stem: str, step: int, is_lowest: bool = False) -> str:
    """Return what the checkpoint of an update is called.

    Args:
        stem: ``output.checkpoint_name``.
        step: updates that the model has had.
        is_lowest: it is one of those of the lowest validation cost.
    """
    return f"{stem}{'_lve' if is_lowest else ''}-{step:08d}.ckpt"
