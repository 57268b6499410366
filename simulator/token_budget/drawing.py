"""Figure of iteration time and capacity over the token budget."""

from collections.abc import Mapping
from pathlib import Path

from simulator.plot import axis_of, save
from traces.shared.figure_style import GREY, grid, line, points, set_title, styled

NARROWEST = 2048  # tokens that the x-axis shows at least


@styled
def draw(
    curve: Mapping[int, float],
    bound_s: float,
    budget: int | None,
    capacities: Mapping[int, float],
    heading: str,
    path: Path,
) -> None:
    """Draw the iteration time with its bound and, if any, the capacities.

    Args:
        curve: Iteration time in seconds by batch tokens.
        bound_s: Bound on the TBT, seconds.
        budget: Largest budget within the bound; None: there is none.
        capacities: Requests per second by budget; may be empty.
        heading: Model, devices and layout.
        path: PNG file to write.
    """
    panels = 2 if capacities else 1
    figure, (axes, *capacity_axes) = grid(1, panels, height=3.6, width=None if capacities else 5.6)
    axes.plot(list(curve), [1e3 * seconds for seconds in curve.values()], label="iteration time", **line(0))
    bound, _ = axis_of("tbt_s")
    axes.axhline(
        1e3 * bound_s,
        color=GREY,
        linestyle=(0, (5, 2)),
        label=f"bound on {bound.partition(',')[0]}, {1e3 * bound_s:.4g} ms",
    )
    end = max(curve)
    if budget is not None:
        axes.axvline(budget, **line(1), label=f"largest budget within it, {budget:,} tokens")
        end = min(end, max(NARROWEST, 4 * budget))
    axes.set(xlabel="tokens in the iteration, decodes included", ylabel="iteration time, ms", xlim=(0, 1.02 * end))
    shown = [seconds for count, seconds in curve.items() if count <= end]
    axes.set_ylim(0, 1e3 * max(*shown, bound_s) * 1.08)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for right in capacity_axes:
        right.plot(list(capacities), list(capacities.values()), label="capacity", **points(0))
        right.set_xscale("log", base=2)
        powers = [2**power for power in range(31) if min(capacities) <= 2**power <= max(capacities)]
        right.set_xticks(powers, [f"{power:,}" for power in powers])
        right.minorticks_off()
        right.set(xlabel="token budget", ylabel="capacity, requests/s")
        right.set_ylim(bottom=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left")
    set_title(figure, "Iteration time over the tokens of a batch" + (", and capacity" if capacities else ""), heading)
    save(figure, path)
