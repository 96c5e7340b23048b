"""Names of the files in the folders of runs, searches and sweeps; they are spelled only here."""

CONFIG = "config.yaml"
METRICS = "metrics.csv"
SCORES, EVALUATION = "scores.json", "evaluation.json"
UNFINISHED_SCORES = "scoring.json"
REPORT, REPORT_RECORD = "report.html", "report.json"
CHECKPOINTS, FIGURES, TENSORBOARD = "checkpoints", "figures", "tensorboard"
RESULTS, WEIGHTS = "model_runs", "model_params"
SUBMISSION = "nlb_submission"  # for the Neural Latents Benchmark
RESULT_PREFIXES = (
    f"{RESULTS}_",
    WEIGHTS,
    SUBMISSION,
)  # files of a run that can lie among its data
JOURNAL, HISTORY = "search.json", "history.csv"
MEMBERS, BEST = "members", "best"
TRIED, TRIED_RECORD = "tried", "tried.json"
COMMAND, RANKING = "sweep.yaml", "results.csv"
JOB, ERROR = "job.yaml", "error.txt"
ALIGNMENT = "alignment.png"  # written by lfads-align beside the session files


def checkpoint_name(stem: str, step: int, is_lowest: bool = False) -> str:
    """Return the file name of a checkpoint.

    Args:
        stem: ``output.checkpoint_name``.
        step: number of updates that the model has had.
        is_lowest: whether it is kept for its lowest validation cost.
    """
    return f"{stem}{'_lve' if is_lowest else ''}-{step:08d}.ckpt"
