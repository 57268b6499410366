"""The search itself: Optuna proposes, the simulator serves."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from simulator.search.space import Option

# A latency that nobody has shown is worse than any.
NEVER_S = 1e9
# Deployments of more than so many times the cost of the cheapest one are not looked at.
SLACK = 2.0
# Proposals of a generation: NSGA-II's default of 50 would leave a search of 100 trials two of them.
POPULATION = 24
_OUTCOMES = "outcomes"


@dataclass(frozen=True)
class Candidate:
    """A deployment to try.

    Attributes:
        option: Device and layout.
        replicas: How many.
        scheduler: Name of the policy.
        token_budget: Its token budget; None: it has none.
    """

    option: Option
    replicas: int
    scheduler: str
    token_budget: int | None


@dataclass(frozen=True)
class Outcome:
    """What a candidate shows.

    Attributes:
        device: Name of the device.
        tp: Tensor-parallel degree.
        pp: Pipeline-parallel degree.
        replicas: How many.
        scheduler: Name of the policy.
        token_budget: Its token budget; None: it has none.
        num_gpus: GPUs in all.
        cost_per_hour_usd: Price of them.
        values: Seconds by objective; NEVER_S: nobody has shown it.
        met: Whether all objectives are met.
    """

    device: str
    tp: int
    pp: int
    replicas: int
    scheduler: str
    token_budget: int | None
    num_gpus: int
    cost_per_hour_usd: float
    values: Mapping[str, float]
    met: bool


Serve = Callable[[Candidate], Mapping[str, float]]


class Search:
    """A search for the cheapest deployment; several processes may share its storage.

    Optuna proposes device, layout, policy and token budget. For each proposal the fewest replicas within the SLO
    are found by bisection.
    """

    def __init__(
        self,
        kept: Sequence[Option],
        policies: Mapping[str, Sequence[int]],
        bounds: Mapping[str, float],
        max_gpus: int,
        serve: Serve,
        problem: Mapping[str, Any],
    ) -> None:
        """Take what is searched.

        Args:
            kept: Devices and layouts.
            policies: Token budgets by policy; empty where it has none.
            bounds: Seconds by objective.
            max_gpus: GPUs of a deployment at most.
            serve: Serves the load with a candidate; ValueError: it cannot.
            problem: What makes two searches the same; trials are shared only between those.
        """
        self._options = {one.name: one for one in kept}
        self._policies = policies
        self._bounds = bounds
        self._max_gpus = max_gpus
        self._serve = serve
        digest = hashlib.sha1(json.dumps(problem, sort_keys=True).encode()).hexdigest()
        self._name = f"search-{digest[:16]}"

    @property
    def num_points(self) -> int:
        """Different proposals that there are."""
        return len(self._options) * sum(max(1, len(budgets)) for budgets in self._policies.values())

    def run(self, trials: int, seed: int, storage: str | None, done: Callable[[int], None]) -> list[Outcome]:
        """Try proposals until there have been so many, those in the storage included.

        If there are no more than that, each is tried; else NSGA-II proposes.

        Args:
            trials: Trials in all.
            seed: Seed of the proposals.
            storage: NAME.journal, a URL of a database, or None.
            done: Called with the number of trials so far.

        Returns:
            Every deployment that was simulated.

        Raises:
            ValueError: The storage cannot be used.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            storage=open_storage(storage),
            study_name=self._name,
            load_if_exists=True,
            directions=[StudyDirection.MINIMIZE] * (1 + len(self._bounds)),
            sampler=self._sampler(trials, seed),
        )
        ended = _ended(study)
        done(len(ended))
        while len(ended) < trials and len({_key(trial) for trial in ended}) < self.num_points:
            study.optimize(self._objective, n_trials=1)
            ended = _ended(study)
            done(len(ended))
        return [Outcome(**plain) for trial in ended for plain in trial.user_attrs.get(_OUTCOMES, ())]

    def _sampler(self, trials: int, seed: int) -> optuna.samplers.BaseSampler:
        if self.num_points > trials:
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        with warnings.catch_warnings():  # it says that its interface may change
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.BruteForceSampler(seed=seed)

    def _objective(self, trial: Trial) -> Sequence[float]:
        option = self._options[trial.suggest_categorical("option", list(self._options))]
        scheduler = trial.suggest_categorical("scheduler", list(self._policies))
        budgets = self._policies[scheduler]
        budget = trial.suggest_categorical(f"token_budget of {scheduler}", list(budgets)) if budgets else None
        ended = _ended(trial.study)
        twin = next((one for one in ended if _key(one) == tuple(sorted(trial.params.items()))), None)
        if twin is None:
            outcomes = self._fewest_replicas(option, scheduler, budget, self._most_replicas(option, ended))
            trial.set_user_attr(_OUTCOMES, [asdict(one) for one in outcomes])
        else:
            outcomes = [Outcome(**plain) for plain in twin.user_attrs.get(_OUTCOMES, ())]
            trial.set_user_attr(_OUTCOMES, [])
        if not outcomes:
            raise optuna.TrialPruned
        within = [one for one in outcomes if one.met]
        best = min(within or outcomes, key=lambda one: one.cost_per_hour_usd if one.met else -one.cost_per_hour_usd)
        for name, bound in self._bounds.items():
            trial.set_constraint(name, best.values[name] / bound - 1)
        return [best.cost_per_hour_usd, *best.values.values()]

    def _most_replicas(self, option: Option, ended: Sequence[FrozenTrial]) -> int:
        """Replicas beyond which an option is not looked at: GPUs, or SLACK times the cheapest cost so far."""
        costs = [
            plain["cost_per_hour_usd"]
            for trial in ended
            for plain in trial.user_attrs.get(_OUTCOMES, ())
            if plain["met"]
        ]
        most = self._max_gpus // (option.tp * option.pp)
        return min(most, int(SLACK * min(costs) / option.price_per_hour_usd)) if costs else most

    def _fewest_replicas(self, option: Option, scheduler: str, budget: int | None, most: int) -> list[Outcome]:
        """Bisect over replicas, and return all outcomes on the way; empty: it cannot win."""
        found: dict[int, Outcome] = {}

        def met(replicas: int) -> bool:
            if replicas not in found:
                found[replicas] = self._outcome(Candidate(option, replicas, scheduler, budget))
            return found[replicas].met

        low, high = option.fewest_replicas - 1, option.fewest_replicas
        try:
            while high <= most and not met(high):
                low, high = high, max(high + 1, min(2 * high, most))
            if high > most:
                return list(found.values())
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if met(middle) else (middle, high)
        except ValueError:  # does not fit the machines or the memory
            return list(found.values())
        return list(found.values())

    def _outcome(self, candidate: Candidate) -> Outcome:
        option = candidate.option
        values = dict(self._serve(candidate))
        return Outcome(
            device=option.device,
            tp=option.tp,
            pp=option.pp,
            replicas=candidate.replicas,
            scheduler=candidate.scheduler,
            token_budget=candidate.token_budget,
            num_gpus=candidate.replicas * option.tp * option.pp,
            cost_per_hour_usd=candidate.replicas * option.price_per_hour_usd,
            values=values,
            met=all(values[name] <= bound for name, bound in self._bounds.items()),
        )


def open_storage(storage: str | None) -> BaseStorage | None:
    """Open what trials are kept in; None: they are kept nowhere.

    Raises:
        ValueError: It cannot be used.
    """
    if storage is None:
        return None
    try:
        if "://" in storage:
            return RDBStorage(storage)
        if not storage.endswith(".journal"):
            raise ValueError("write a file NAME.journal or sqlite:///NAME.db")
        Path(storage).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(storage))
    except Exception as error:  # of whatever driver the database has
        raise ValueError(f"storage={storage}: {' '.join(str(error).split())}") from error


def pareto(outcomes: Sequence[Outcome], objective: str) -> list[Outcome]:
    """Return the deployments within the SLO that no other beats in both cost and one objective, cheapest first."""
    front: list[Outcome] = []
    best_s = math.inf
    for one in sorted(set_of(outcomes), key=lambda one: (one.cost_per_hour_usd, one.values[objective])):
        if one.met and one.values[objective] < best_s:
            best_s = one.values[objective]
            front.append(one)
    return front


def set_of(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return different deployments once."""
    found: dict[tuple[Any, ...], Outcome] = {}
    for one in outcomes:
        found.setdefault((one.device, one.tp, one.pp, one.replicas, one.scheduler, one.token_budget), one)
    return list(found.values())


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _key(trial: FrozenTrial) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(trial.params.items()))
