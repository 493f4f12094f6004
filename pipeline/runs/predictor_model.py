"""The predictor as MLflow serves it: paths of CTs in, draft reports and probabilities out.

MLflow runs this file when it loads the model, instead of unpickling one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from uvlm.errors import DataError
from uvlm.evaluation.said import spans_of_model
from uvlm.inference.predictor import Predictor


class Drafts(PythonModel):
    """Reads CTs by their paths; a CT that is refused gets the reason instead of a report."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights, whose digests are checked."""
        folder = Path(context.artifacts["report"])
        self.predictor = Predictor.load(folder, spans=spans_of_model(folder))

    # MLflow takes the hint of the input for its schema, and warns of dictionaries in the output.
    def predict(  # type: ignore[no-untyped-def]
        self, context: PythonModelContext, model_input: list[str], params: Any = None
    ):
        """Write a draft for each path."""
        return [self._draft(path) for path in model_input]

    def _draft(self, path: str) -> dict[str, Any]:
        try:
            said = self.predictor.predict(Path(path))
        except DataError as error:
            return {"path": path, "error": str(error)}
        return {
            "path": path,
            "report": said.report.text,
            "probabilities": said.probabilities,
            "not_trained": list(said.not_trained),
            "note": "unreviewed research draft, not a diagnosis",
        }


set_model(Drafts())
