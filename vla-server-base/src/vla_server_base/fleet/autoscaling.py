"""Ray Serve's autoscaling by queue and deadline.

Serve's own policy counts requests, and a processor's load says nothing of a GPU. Here each replica reports what
`EngineLoad` counts, in `record_autoscaling_stats`. Serve's controller calls the policy, so this package must be
installed where the controller runs.
"""

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, no_type_check

from vla_server_base.fleet.demand import Shortage, TierLoad, mean_of, num_replicas_for, replica_load

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

POLICY = "vla_server_base.fleet.autoscaling:scale_by_deadline"
"""The policy's name in Serve's `autoscaling_config`."""


# Serve pickles this function by value, and the tests' checks of types cannot be pickled.
@no_type_check
def scale_by_deadline(context: "AutoscalingContext") -> tuple[int, dict[str, Any]]:
    """Return how many replicas Ray Serve is to run, and the state of this policy.

    Serve applies the delays and bounds of `autoscaling_config` to it, and calls it for each deployment.
    """
    config, raw = context.config, context.raw_metrics or {}
    since = context.current_time - config.look_back_period_s - config.metrics_interval_s
    reports = []
    for replica in context.running_replicas:
        recent = {
            name: [point.value for point in by_replica.get(replica, ()) if point.timestamp >= since]
            for name, by_replica in raw.items()
        }
        reports.append(replica_load(recent))
    load = TierLoad(
        replicas=[each for each in reports if each is not None],
        num_running=context.current_num_replicas,
        num_wanted=context.target_num_replicas,
        queued=mean_of([context.total_queued_requests]) or 0.0,
        min_replicas=context.capacity_adjusted_min_replicas,
        max_replicas=context.capacity_adjusted_max_replicas,
    )
    state = context.policy_state
    names = [field.name for field in fields(Shortage)]
    shortage = replace(Shortage(), **{name: state[name] for name in names if name in state})
    num_replicas, shortage = num_replicas_for(load, shortage)
    return num_replicas, asdict(shortage)
