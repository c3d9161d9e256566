"""ModelDeployment: the deployment of an application's model, as Ray Serve knows it."""

from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

MODEL = "model"
"""The name of the model's deployment in every application of ours."""

_HAS_FAILED = (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.DELETING)


class ModelDeployment:
    """Where an application's policy runs; what asks the cluster may block."""

    def __init__(self, application: str):
        self._application = application
        self.handle: DeploymentHandle = serve.get_deployment_handle(MODEL, application)

    def failure(self) -> str | None:
        """Return why the model cannot be loaded; None while it may be."""
        return failure_of(self._application)

    def num_running(self) -> int:
        """Return how many replicas answer."""
        status = serve.status().applications.get(self._application)
        model = None if status is None else status.deployments.get(MODEL)
        states = {} if model is None else model.replica_states
        return sum(num for state, num in states.items() if state == "RUNNING")


def failure_of(application: str) -> str | None:
    """Return why an application cannot be deployed; None while it may be."""
    status = serve.status().applications.get(application)
    if status is None or status.status not in _HAS_FAILED:
        return None
    reports = [each.message for each in status.deployments.values() if "Error: " in each.message]
    return _sentence_of(reports[0] if reports else status.message)


def _sentence_of(report: str) -> str:
    """Return what a report says that ends with a traceback: the error, without its class."""
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    error = next((line for line in reversed(lines) if "Error: " in line or "Unavailable: " in line), None)
    return (error.partition(": ")[2] if error else lines[0] if lines else "") or "Ray Serve does not say why"
