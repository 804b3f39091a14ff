"""What other prunings of a network are worth, measured as its report is, on the evaluation samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import onnx

from flow.frontend.imported import Imported
from flow.judgement.accuracy import evaluate_own, json_number
from flow.network.answers import Answers, answers, distance
from flow.network.samples import Samples
from flow.network.task import Task, score_axes, tasks_of
from flow.network.usercode import UserFunction
from flow.onnxtools import runtime


@dataclass(frozen=True)
class Yardstick:
    """The evaluation samples, the answers of the network given to them, and what their labels say of each output.

    The metric is the user's own function, or else that of the output that `Accuracy.labelled` names. `weights` are
    those of outputs in the divergence, else 1; `lower`: less of the metric is better.
    """

    samples: Samples
    wanted: Mapping[str, Answers]
    tasks: Mapping[str, Task]
    weights: Mapping[str, float]
    lower: bool

    @classmethod
    def of(cls, imported: Imported, evaluation_set: Samples, weights: Mapping[str, float] | None = None) -> Self:
        """That of an imported network: INT8 where it was not float."""
        model = imported.network.model if imported.float_model is None else imported.float_model
        outputs = runtime.predict_all(model, evaluation_set.feeds)
        tasks = tasks_of(outputs, evaluation_set)
        wanted = answers(model, evaluation_set.feeds, score_axes(tasks), outputs)
        lower = False
        if isinstance(evaluation_set.metric, UserFunction):
            lower = evaluate_own(evaluation_set.metric, outputs, evaluation_set).lower
        elif (task := _first(wanted, tasks)) is not None:
            lower = task.lower
        return cls(evaluation_set, wanted, tasks, weights or {}, lower)

    def measure(self, model: onnx.ModelProto) -> tuple[float | None, float]:
        """The metric of a network, None without labels, and the divergence of all its outputs."""
        feeds, scores = self.samples.feeds, score_axes(self.tasks)
        outputs = runtime.predict_all(model, feeds)
        apart = distance(self.wanted, answers(model, feeds, scores, outputs), self.weights)
        if isinstance(self.samples.metric, UserFunction):
            return evaluate_own(self.samples.metric, outputs, self.samples).value, apart
        task = self._task
        return None if task is None else json_number(task.measure(outputs[task.output])[0]), apart

    @property
    def metric(self) -> str | None:
        """The name of the metric; None without labels."""
        if isinstance(self.samples.metric, UserFunction):
            return str(self.samples.metric)
        return None if self._task is None else self._task.metric

    @property
    def _task(self) -> Task | None:
        return _first(self.wanted, self.tasks)


def _first(wanted: Mapping[str, Answers], tasks: Mapping[str, Task]) -> Task | None:
    """The first output with class labels, or else with any."""
    found = [tasks[name] for name in wanted if name in tasks]
    return next((task for task in found if task.classes), next(iter(found), None))
