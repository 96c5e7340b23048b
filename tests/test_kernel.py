"""In a real Jupyter kernel: completion, reprs, figures, the bar, interrupts, mistakes."""

import re
import time
from queue import Empty

import pytest
from jupyter_client.manager import start_new_kernel

SECONDS = 300  # on a machine that is busy with other things
START = """
import numpy as np
import lfads_lightning as lfads

counts = np.random.default_rng(0).poisson(1.0, (24, 12, 6))
sizes = dict(
    gen_dim=6, factors_dim=3, ic_dim=4, ic_enc_dim=5, ci_enc_dim=5, con_dim=5, co_dim=1,
    batch_size=8, kl_increase_steps=0, l2_increase_steps=0, report=False,
    plot_every_n_epochs=0, recipe="original",
)
"""


class Kernel:
    """A kernel and what it answers."""

    def __init__(self, manager, client):
        self.manager, self.client = manager, client

    def run(self, code, until=None):
        """Run a cell; return its messages. It is interrupted once ``until`` says so of them."""
        asked, messages, end = self.client.execute(code), [], time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return messages
            messages.append((kind, content))
            if until is not None and until(messages):
                until = None
                self.manager.interrupt_kernel()
        raise TimeoutError(code)

    def complete(self, code):
        """Return what Tab offers at the end of a line."""
        asked, end = self.client.complete(code), time.monotonic() + SECONDS
        while time.monotonic() < end:
            answer = self.client.get_shell_msg(timeout=SECONDS)
            if answer["parent_header"].get("msg_id") == asked:
                return answer["content"]["matches"]
        raise TimeoutError(code)


def texts(messages, kind="stream"):
    return "".join(content["text"] for k, content in messages if k == kind)


def result(messages):
    """Return what the cell shows of its last value, by type."""
    (shown,) = [content["data"] for kind, content in messages if kind == "execute_result"]
    return shown


def bar(messages):
    """Return the values that the bar of widgets took, as they were shown."""
    states = [c["data"].get("state", {}) for kind, c in messages if kind == "comm_msg"]
    return [state["value"] for state in states if "value" in state]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Start a kernel in an empty folder, with data and small sizes."""
    manager, client = start_new_kernel(cwd=str(tmp_path_factory.mktemp("kernel")))
    try:
        made = Kernel(manager, client)
        made.run(START)
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_tab_offers_public_names_and_keywords(kernel):
    names = kernel.complete("lfads.")
    assert {"fit", "load", "prepare", "Trained", "Session"} < set(names)
    assert not {"Any", "TYPE_CHECKING", "import_module", "version"} & set(names)
    assert kernel.complete("lfads.fit(counts, co_")[:2] == ["co_dim=", "co_mean_corr_scale="]
    assert "time_unit=" in kernel.complete("lfads.prepare(path, 'data', time_")
    assert "ridge=" in kernel.complete("lfads.align(path, rid")
    assert "learning_rate_init=" in kernel.complete("lfads.Estimator(learn")


def test_training_has_a_bar_and_its_result_shows_itself(kernel):
    cell = "trained = lfads.fit(counts, max_epochs=5, lfads_save_dir='first', **sizes)\ntrained"
    messages = kernel.run(cell)
    assert "error" not in dict(messages)
    assert 5.0 in bar(messages)
    assert any("valid" in str(value) and "lr" in str(value) for value in bar(messages))
    told = texts(messages)
    assert told.count("Warning: trainer.device=gpu:0: this machine has no such device") <= 1
    assert ".py" not in told
    shown = result(messages)
    assert shown["text/plain"].startswith("Trained(session: 6 neurons, 3 factors, ")
    assert "hidden bits per spike" in shown["text/html"]
    figure = result(kernel.run("trained.plot.factors()"))
    assert figure["image/png"].startswith("iVBORw")
    posterior = result(kernel.run("trained.posterior_push_mean(counts)"))
    assert posterior["text/plain"].startswith("Posterior(24 trials × 12 bins: 6 neurons")
    assert len(posterior["text/plain"]) < 100
    assert "<polyline" in posterior["text/html"]
    assert "learning_rate_init=" not in kernel.complete("trained.plot.")
    assert {"trial", "averages", "curves"} < set(kernel.complete("trained.plot."))


def test_interrupt_returns_the_model_so_far_and_says_how_to_go_on(kernel):
    cell = "so_far = lfads.fit(counts, max_epochs=9999, lfads_save_dir='cut', **sizes)\nso_far"
    messages = kernel.run(cell, until=lambda so_far: 3.0 <= max(_numbers(so_far), default=0))
    assert "error" not in dict(messages)
    shown = result(messages)["text/plain"]
    step = int(re.search(r"; (\d+) updates\)", shown)[1])
    assert step > 0
    lines = [x for x in texts(messages).splitlines() if x and not x.startswith("Warning:")]
    (line,) = lines
    assert line.startswith("Interrupted and saved; fit returns the model so far. To continue: call")
    folder = re.search(r"lfads_save_dir='(.*)'$", line)[1]
    went_on = kernel.run(
        f"again = lfads.fit(counts, max_epochs=len(so_far.history) + 2, "
        f"lfads_save_dir={folder!r}, **sizes)\nlen(again.history) - len(so_far.history)"
    )
    assert result(went_on)["text/plain"] == "0"  # it is the same folder
    assert result(kernel.run("so_far.posterior_push_mean(counts).rates.shape"))[
        "text/plain"
    ] == "(24, 12, 6)"  # fmt: skip


def _numbers(messages):
    return [value for value in bar(messages) if isinstance(value, float)]


def test_without_widgets_the_bar_is_a_line_that_updates(kernel):
    kernel.run("import lfads_lightning.notebook.interactive as i; i.find_spec = lambda name: None")
    messages = kernel.run("lfads.fit(counts, max_epochs=3, lfads_save_dir='plain', **sizes)")
    told = texts(messages)
    assert "\r" in told
    assert "3/3" in told
    assert bar(messages) == []


def test_mistake_is_one_line(kernel):
    (error,) = [c for kind, c in kernel.run("lfads.fit(counts, co_dims=3)") if kind == "error"]
    assert error["traceback"] == [
        "LFADSError: fit: no parameter is named 'co_dims'; did you mean co_dim?"
    ]
