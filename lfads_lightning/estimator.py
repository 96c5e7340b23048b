"""LFADS with scikit-learn's interface: clone, cross-validation, grid search, pipelines."""

from __future__ import annotations

import inspect
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from lfads_lightning.api import fit_unscored
from lfads_lightning.commands import nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.fields import Session
from lfads_lightning.evaluation.scores import hidden_score
from lfads_lightning.inference.posterior import Averages, judged_rates
from lfads_lightning.interface.signatures import estimator_keywords
from lfads_lightning.notebook.interactive import warns_in_short

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lfads_lightning.notebook.typed_keywords import EstimatorKeywords

PARAMETERS = tuple(keyword.name for keyword in estimator_keywords())


class Estimator(TransformerMixin, BaseEstimator):
    """LFADS as a scikit-learn estimator, for trials of one session.

    ``X`` is (E, T, D): trials, bins, neurons; scikit-learn splits and selects trials. Parameters
    are those of :func:`lfads_lightning.fit` except those of files and searches; None means not set.
    Nothing is left on disk: a run uses a temporary folder while it trains. For a report, and to
    continue training later, use :func:`lfads_lightning.fit`.

    Attributes:
        trained_: the model, a :class:`lfads_lightning.Trained`; ``trained_.save(folder)`` keeps it.
        history_: costs and learning rates per epoch, as in ``Trained.history``.
        n_features_in_: D.

    >>> from sklearn.base import clone
    >>> import lfads_lightning as lfads
    >>> estimator = lfads.Estimator(co_dim=0, max_epochs=100)
    >>> clone(estimator).set_params(factors_dim=8)
    Estimator(co_dim=0, factors_dim=8, max_epochs=100)
    """

    def __init__(self, **parameters: Unpack[EstimatorKeywords]) -> None:
        given: dict[str, Any] = dict(parameters)
        for name in given:
            if name not in PARAMETERS:
                raise LFADSError(
                    f"Estimator: no parameter is named {name}{nearest(name, PARAMETERS)}; for "
                    "parameters of files and searches use lfads.fit"
                )
        for name in PARAMETERS:
            setattr(self, name, given.get(name))

    @warns_in_short
    def fit(self, X: ArrayLike, y: Any = None) -> Estimator:
        """Train on trials; a fifth of them, or ``valid_fraction``, choose the best epoch.

        Args:
            X: (E, T, D) counts per bin, or real values with a noise model for them.
            y: not used; scikit-learn passes it.

        Raises:
            LFADSError: data or parameters are wrong.
        """
        given = {n: v for n, v in self.get_params(deep=False).items() if v is not None}
        with TemporaryDirectory(prefix="lfads-") as folder:
            trained = fit_unscored(X, folder, given)
            self.history_ = trained.history
            trained.folder = None  # the temporary folder is gone
        trained.config.output.lfads_save_dir = None
        self.trained_ = trained
        self.n_features_in_ = next(iter(trained.sessions.values())).data_dim
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Return the factors (E, T, F) of trials, averaged over posterior samples."""
        return self._averages(X).factors

    def rates(self, X: ArrayLike) -> np.ndarray:
        """Return the rates (E, T, D) of trials, expected counts per bin."""
        return self._averages(X).rates

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return bits per spike of hidden entries, hiding a fifth of the entries at a time.

        0 is as good as each neuron's mean over these trials; copying spikes gains nothing. For real
        values it is the R2 of hidden values, averaged over neurons.

        Args:
            X: (E, T, D) trials that the model was not trained on.
            y: not used; scikit-learn passes it.
        """
        return hidden_score(self.trained_, self._session(X), "train")

    def _averages(self, X: ArrayLike) -> Averages:
        session = self._session(X)
        return judged_rates(self.trained_.evaluation(), session.name, session.train)

    def _session(self, X: ArrayLike) -> Session:
        check_is_fitted(self, "trained_")
        return self.trained_.sessions_of(X)[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags


# scikit-learn reads parameter names from the signature
Estimator.__init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        *(
            inspect.Parameter(
                k.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=k.annotation
            )
            for k in estimator_keywords()
        ),
    ]
)
