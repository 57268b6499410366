"""Deployments of a cluster from a composed configuration."""

from omegaconf import DictConfig, OmegaConf

from simulator.cluster import Deployment
from simulator.config.components import ConfigError, build_component, named, require_keys, require_mapping
from simulator.config.compose import choose
from traces.shared.value_checks import instance, sequence

COMPONENTS = ("scheduler", "model", "device", "parallel", "iteration_time", "engine", "kv_cache")
# Keys that a group of a cluster may override.
GROUP_KEYS = ("device", "node", "parallel", "scheduler", "kv_cache", "replicas", "num_nodes")
_CLUSTER_KEYS = ("replicas", "router", "node", "groups", "num_nodes", "workers", "backend")


def cluster_of(config: DictConfig) -> Deployment | list[Deployment]:
    """Build the deployment of a cluster, or one per group.

    Checks that the replicas fit.
    """
    require_keys(config.cluster, "cluster", _CLUSTER_KEYS)
    groups = config.cluster.groups
    if groups is None:
        only = single_deployment(config)
        with named(""):
            only.replica_specs()
        return only
    entry = f"{{{', '.join(GROUP_KEYS)}}}"
    with named(""):
        sequence("cluster.groups", groups, f"null or a list of groups {entry}", instance, DictConfig, entry, least=1)
    deployments = []
    for index, group in enumerate(groups):
        key = f"cluster.groups[{index}]"
        require_keys(group, key, GROUP_KEYS)
        with named(key):
            deployments.append(deployment_of(config, group))
        with named(key, ": "):
            deployments[-1].replica_specs()
    return deployments


def deployment_of(config: DictConfig, group: DictConfig) -> Deployment:
    """Build the deployment of a group.

    Args:
        config: Composed configuration.
        group: Keys that the group overrides.

    Raises:
        ConfigError: A key or a value is not allowed.
    """
    return single_deployment(_with_group(config, group), section="")


def single_deployment(config: DictConfig, section: str = "cluster") -> Deployment:
    """Build a deployment, without regard to groups.

    Args:
        config: Composed configuration.
        section: Key that messages name.

    Raises:
        ConfigError: A key or a value is not allowed.
    """
    components = {name: build_component(config[name], name) for name in COMPONENTS}
    cluster = config.cluster
    components["node"] = None if cluster.get("node") is None else build_component(cluster.node, "cluster.node")
    with named(section):
        return Deployment(**components, num_replicas=cluster.get("replicas", 1), num_nodes=cluster.get("num_nodes"))


def _with_group(config: DictConfig, group: DictConfig) -> DictConfig:
    """Return the configuration of one group.

    A name replaces the component by that file of `configs/`; keys change single values; the rest is inherited.
    """
    merged = config.copy()
    OmegaConf.set_struct(merged, False)
    chosen = {str(name): value for name, value in group.items() if isinstance(value, str)}
    if "device" in chosen:
        choice = choose("device", chosen["device"])
        merged.device, merged.cluster.node = choice.device, choice.cluster.get("node")
    if "node" in chosen:
        merged.cluster.node = choose("cluster/node", chosen["node"]).cluster.node
    if "scheduler" in chosen:
        merged.scheduler = choose("scheduler", chosen["scheduler"]).scheduler
    for name, value in ((str(name), value) for name, value in group.items()):
        if name in ("replicas", "num_nodes"):
            merged.cluster[name] = value
        elif isinstance(value, str):
            if name not in ("device", "node", "scheduler"):
                raise ConfigError(
                    f"{name} has keys of its own, {{NAME: VALUE}}, and takes no value itself; got {value!r}"
                )
        else:
            require_mapping(value, name)
            section = merged.cluster if name == "node" else merged
            section[name] = value if "_target_" in value else OmegaConf.merge(section[name], value)
    return merged
