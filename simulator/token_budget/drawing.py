"""Figure of iteration time and capacity over the token budget."""

from pathlib import Path

from simulator.token_budget.curve import Curve
from traces.shared.figure_style import GREY, grid, line, points, save, styled

NARROWEST = 2048  # tokens that the x-axis shows at least


@styled
def draw(curve: Curve, bound_s: float, budget: int | None, capacities: dict[int, float], path: Path) -> None:
    """Draw the iteration time with its bound and, if any, the capacities.

    Args:
        curve: Iteration time over batch tokens.
        bound_s: Bound on the TBT, seconds.
        budget: Largest budget within the bound; None: there is none.
        capacities: Requests per second by budget; may be empty.
        path: PNG file to write.
    """
    panels = 2 if capacities else 1
    figure, (axes, *capacity_axes) = grid(1, panels, width=6.0, height=3.8)
    axes.plot(curve.tokens, [1e3 * seconds for seconds in curve.seconds], **line(0))
    axes.axhline(1e3 * bound_s, color=GREY, linestyle=(0, (5, 2)), label=f"TBT bound {1e3 * bound_s:.4g} ms")
    if budget is not None:
        axes.axvline(budget, **line(1), label=f"budget {budget:,} tokens")
    axes.set(xlabel="tokens in the iteration, decodes included", ylabel="iteration time, ms")
    axes.set_xlim(0, curve.tokens[-1] if budget is None else min(curve.tokens[-1], max(NARROWEST, 4 * budget)))
    shown = [seconds for count, seconds in zip(curve.tokens, curve.seconds, strict=True) if count <= axes.get_xlim()[1]]
    axes.set_ylim(0, 1e3 * max(*shown, bound_s) * 1.08)
    axes.legend()
    for right in capacity_axes:
        right.plot(list(capacities), list(capacities.values()), **points(0))
        right.set_xscale("log", base=2)
        right.set_xticks(list(capacities), [str(candidate) for candidate in capacities], rotation=60, fontsize=8)
        right.minorticks_off()
        right.set(xlabel="token budget", ylabel="capacity, requests/s")
        right.set_ylim(bottom=0)
    save(figure, path)
