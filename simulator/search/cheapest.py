"""The search: Optuna proposes deployments, the simulator evaluates them."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from simulator.search.outcomes import SLACK, Candidate, Outcome, excess, loss
from simulator.search.space import Option

# Proposals per generation; NSGA-II's default of 50 would leave only two generations in 100 trials.
POPULATION = 24
_OUTCOMES = "outcomes"


@dataclass(frozen=True)
class Served:
    """A candidate under the load.

    Attributes:
        max_num_seqs: Maximum running requests of a replica; None: the policy states none.
        memory_utilization: Share of the GPU memory that the engine takes.
        values: Seconds by objective; NEVER_S: not measured.
        keeps_up: Whether the queue had stopped growing when the last request arrived.
        warnings: Warnings of the run.
    """

    values: Mapping[str, float]
    keeps_up: bool
    warnings: Sequence[str] = ()
    max_num_seqs: int | None = None
    memory_utilization: float = 1.0


class CannotServeError(Exception):
    """A candidate does not fit its nodes or memory."""


Serve = Callable[[Candidate], Served]


class Search:
    """Search for the cheapest deployment; several processes may share its storage.

    Optuna proposes device, layout, policy and token budget. Bisection finds the fewest replicas within the SLO for
    each proposal.
    """

    def __init__(
        self,
        kept: Sequence[Option],
        bounds: Mapping[str, float],
        max_gpus: int,
        serve: Serve,
        problem: Mapping[str, Any],
    ) -> None:
        """Define the search space.

        Args:
            kept: Devices and layouts, all with the same policies.
            bounds: Seconds by objective.
            max_gpus: Maximum number of GPUs of a deployment.
            serve: Simulates the load with a candidate.
            problem: Identity of the search; only searches with equal problems share trials.
        """
        self._options = {option.name: option for option in kept}
        self._policies = list(kept[0].token_budgets)
        self._bounds = bounds
        self._max_gpus = max_gpus
        self._serve = serve
        digest = hashlib.sha1(json.dumps(problem, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        self._name = f"search-{digest[:16]}"
        num_defaults = len(self._options) * len(self._policies)
        self._defaults = list(islice(self._points(), num_defaults))

    @property
    def num_points(self) -> int:
        """Number of different proposals."""
        return sum(1 for _ in self._points())

    def run(self, trials: int, seed: int, storage: str | None, done: Callable[[int], None]) -> list[Outcome]:
        """Try up to `trials` different proposals, including those in the storage.

        Each option's defaults come first. A space of at most `trials` proposals is searched exhaustively; else NSGA-II
        proposes the others.

        Args:
            trials: Maximum number of different proposals.
            seed: Seed of the proposals.
            storage: NAME.journal, the URL of a database, or None.
            done: Called with the number of proposals tried so far.

        Returns:
            Every simulated deployment.

        Raises:
            ValueError: The storage cannot be used.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        wanted = min(trials, self.num_points)
        try:
            return self._run_trials(self._study(storage, seed), wanted, trials, done)
        except json.JSONDecodeError as error:  # a journal whose last line is incomplete
            raise ValueError(f"storage={storage} is damaged, move it away: {error}") from error

    def _run_trials(self, study: optuna.Study, wanted: int, trials: int, done: Callable[[int], None]) -> list[Outcome]:
        repeated = False
        while (count := len(_tried(study))) < wanted:
            done(count)
            point = self._untried(study)
            if repeated or self.num_points <= trials or point in self._defaults:
                study.enqueue_trial(point)
            study.optimize(self._objective, n_trials=1)
            repeated = len(_tried(study)) == count
        done(count)
        return [Outcome(**plain) for trial in _ended(study) for plain in trial.user_attrs.get(_OUTCOMES, ())]

    def _study(self, storage: str | None, seed: int) -> optuna.Study:
        """Open the study; each process and each resumed search draws different proposals."""
        opened = open_storage(storage)
        directions = [StudyDirection.MINIMIZE] * (1 + len(self._bounds))
        try:
            study = optuna.create_study(
                storage=opened, study_name=self._name, load_if_exists=True, directions=directions
            )
            draws = np.random.SeedSequence([seed, len(study.trials), 0 if storage is None else os.getpid()])
        except Exception as error:  # any error of the storage's driver
            raise ValueError(f"storage={storage}: {' '.join(str(error).split())}") from error
        sampler_seed = int(draws.generate_state(1)[0])
        study.sampler = optuna.samplers.NSGAIISampler(seed=sampler_seed, population_size=POPULATION)
        return study

    def _points(self) -> Iterator[dict[str, Any]]:
        """Yield every proposal, those with the defaults of the device first."""
        for name, option in self._options.items():
            for scheduler, budgets in option.token_budgets.items():
                yield _point(name, option, scheduler, next(iter(budgets), None))
        for name, option in self._options.items():
            for scheduler, budgets in option.token_budgets.items():
                for budget in budgets[1:]:
                    yield _point(name, option, scheduler, budget)

    def _untried(self, study: optuna.Study) -> dict[str, Any]:
        """Return an untried proposal, preferably one that no other process is trying."""
        tried = _tried(study)
        running = {_key(trial.params) for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
        untried = [point for point in self._points() if _key(point) not in tried]
        idle = [point for point in untried if _key(point) not in running]
        return (idle or untried)[0]

    def _objective(self, trial: Trial) -> Sequence[float]:
        option = self._options[trial.suggest_categorical("option", list(self._options))]
        scheduler = trial.suggest_categorical("scheduler", self._policies)
        budgets = option.token_budgets[scheduler]
        budget = trial.suggest_categorical(_budget_axis(option, scheduler), list(budgets)) if budgets else None
        ended = _ended(trial.study)
        same = next((earlier for earlier in ended if _key(earlier.params) == _key(trial.params)), None)
        if same is None:
            outcomes = self._fewest_replicas(option, scheduler, budget, self._most_replicas(option, ended))
            trial.set_user_attr(_OUTCOMES, [asdict(outcome) for outcome in outcomes])
        else:
            outcomes = [Outcome(**plain) for plain in same.user_attrs.get(_OUTCOMES, ())]
        if not outcomes:
            raise optuna.TrialPruned
        within = [outcome for outcome in outcomes if outcome.met]
        # If all miss the SLO: the one with the most replicas.
        best = min(within or outcomes, key=_cost_order)
        for name, bound in self._bounds.items():
            trial.set_constraint(name, excess(name, best.values[name], bound) - 1)
        return [best.cost_per_hour_usd, *(loss(name, value) for name, value in best.values.items())]

    def _most_replicas(self, option: Option, ended: Sequence[FrozenTrial]) -> int:
        """Return the maximum replicas of an option.

        Limited by max_gpus and by SLACK times the lowest cost so far.
        """
        costs = [
            plain["cost_per_hour_usd"]
            for trial in ended
            for plain in trial.user_attrs.get(_OUTCOMES, ())
            if plain["met"]
        ]
        most = self._max_gpus // (option.tp * option.pp)
        return min(most, int(SLACK * min(costs) / option.price_per_hour_usd)) if costs else most

    def _fewest_replicas(self, option: Option, scheduler: str, budget: int | None, most: int) -> list[Outcome]:
        """Bisect over replicas and return the outcome of every count tried.

        Empty if none may be tried.
        """
        outcomes: dict[int, Outcome] = {}

        def met(replicas: int) -> bool:
            if replicas not in outcomes:
                outcomes[replicas] = self._outcome(Candidate(option, replicas, scheduler, budget))
            return outcomes[replicas].met

        low, high = option.fewest_replicas - 1, option.fewest_replicas
        try:
            while high <= most and not met(high):
                low, high = high, max(high + 1, min(2 * high, most))
            if high > most:
                return list(outcomes.values())
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if met(middle) else (middle, high)
        except CannotServeError:
            pass
        return list(outcomes.values())

    def _outcome(self, candidate: Candidate) -> Outcome:
        option = candidate.option
        served = self._serve(candidate)
        return Outcome(
            device=option.device,
            tp=option.tp,
            pp=option.pp,
            replicas=candidate.replicas,
            scheduler=candidate.scheduler,
            token_budget=candidate.token_budget,
            max_num_seqs=served.max_num_seqs,
            memory_utilization=served.memory_utilization,
            num_gpus=candidate.replicas * option.tp * option.pp,
            cost_per_hour_usd=candidate.replicas * option.price_per_hour_usd,
            values=served.values,
            warnings=list(served.warnings),
            met=served.keeps_up
            and all(excess(name, served.values[name], bound) <= 1 for name, bound in self._bounds.items()),
        )


def _point(name: str, option: Option, scheduler: str, budget: int | None) -> dict[str, Any]:
    tokens = {} if budget is None else {_budget_axis(option, scheduler): budget}
    return {"option": name, "scheduler": scheduler, **tokens}


def _budget_axis(option: Option, scheduler: str) -> str:
    """Return the name of the axis of token budgets of a device."""
    return f"token_budget of {scheduler} on {option.device}"


def open_storage(storage: str | None) -> BaseStorage | None:
    """Open the storage of the trials; None keeps them in memory only.

    Raises:
        ValueError: The storage cannot be used.
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
    except Exception as error:  # any error of the database's driver
        raise ValueError(f"storage={storage}: {' '.join(str(error).split())}") from error


def _cost_order(outcome: Outcome) -> float:
    return outcome.cost_per_hour_usd if outcome.met else -outcome.cost_per_hour_usd


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _tried(study: optuna.Study) -> set[tuple[tuple[str, Any], ...]]:
    """Return the different proposals that were tried."""
    return {_key(trial.params) for trial in _ended(study)}


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))
