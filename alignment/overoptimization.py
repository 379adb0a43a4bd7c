"""How much of what a policy gains by its proxy is gain by gold, and at what distance from where it started.

Points (KL, proxy, gold) of PPO, DPO and best-of-n on held-out prompts, on one axis, sqrt(KL): Gao et al. 2022, arXiv:2210.10760. KL is
measured by sampling, in nats a response; best-of-n's is log n - (n-1)/n, an upper bound (arXiv:2401.01879), and marked as one. Nothing
is selected by gold. Shapes: P prompts, N samples a prompt, S seeds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alignment.best_of_n import curve, kl_bound_nats
from eval.statistics import Estimate, mean_interval, paired_difference

Judge = Callable[..., list[float]]


@dataclass(frozen=True)
class Measured:
    """One policy on the held-out prompts: a value a prompt, in the prompts' order."""

    kl_nats: list[float]
    proxy: list[float]
    gold: list[float]


@dataclass(frozen=True)
class Point:
    """A place on the plot: a method at one setting, over its seeds."""

    method: str  # "ppo", "ppo trajectory", "dpo", "best-of-n"
    setting: str  # "beta 0.05", "step 40", "n 8"
    seeds: int
    kl_nats: float  # mean over seeds and prompts
    kl_is_bound: bool
    proxy: Estimate
    gold: Estimate


def measure(
    policy: Any,
    reference: Any,
    tokenizer: Any,
    rows: Sequence[Mapping],
    proxy: Judge,
    gold: Judge,
    *,
    max_new_tokens: int,
    seed: int,
) -> Measured:
    """Sample one answer a prompt at temperature 1 and judge it; KL(policy || reference) along it, exact at each token."""
    from eval.preference import measure_kl

    items, _ = measure_kl(policy, reference, tokenizer, list(rows), max_new_tokens, seed)
    prompts, answers = [row["prompt"] for row in rows], [item["output"] for item in items]
    names = dict.fromkeys(name for row in rows for name in row if name != "prompt")
    columns = {name: [row.get(name) for row in rows] for name in names}
    scores = [judge(prompts, answers, **columns) for judge in (proxy, gold)]
    return Measured([item["scores"]["kl_nats"] for item in items], *scores)


def over_seeds(method: str, setting: str, runs: Sequence[Measured]) -> Point:
    """The point of one setting from its runs: means over seeds, intervals with a prompt's seeds kept together (clusters)."""
    if not runs:
        raise ValueError(f"{method}, {setting}: there is no run to summarise")
    prompts = [p for run in runs for p in range(len(run.gold))]
    kl = float(np.mean([value for run in runs for value in run.kl_nats]))
    proxy, gold = (
        mean_interval([v for run in runs for v in getattr(run, name)], clusters=prompts) for name in ("proxy", "gold")
    )
    return Point(method, setting, len(runs), kl, False, proxy, gold)


def best_of_n_points(proxy_PN: np.ndarray, gold_PN: np.ndarray, ns: Sequence[int] | None = None) -> list[Point]:
    """Best-of-n of the reference by its unbiased estimator, from N samples a prompt; at the KL bound."""
    return [
        Point("best-of-n", f"n {row['n']}", 1, kl_bound_nats(row["n"]), True, row["proxy"], row["score"])
        for row in curve(proxy_PN, gold_PN, ns)
    ]


def turnover(method: str, runs: Mapping[str, Sequence[Measured]]) -> str:
    """One sentence: does gold fall while the proxy rises, as KL grows? `runs`: setting -> its seeds.

    The settings are ordered by KL; the one at the largest KL is compared with the one at the gold peak, paired by prompt and seed.
    Only a difference whose interval excludes 0 is called a fall."""
    ordered = sorted(runs.items(), key=lambda item: np.mean([v for run in item[1] for v in run.kl_nats]))
    if len(ordered) < 2:
        return f"{method}: one setting, so nothing can be said of a turnover."
    means = [np.mean([v for run in seeds for v in run.gold]) for _, seeds in ordered]
    peak = int(np.argmax(means))
    if peak == len(ordered) - 1:
        return f"{method}: no turnover; gold is highest at the largest KL that was tried ({ordered[-1][0]})."
    name, last = ordered[-1]
    top = ordered[peak][1]
    pairs = list(zip(last, top, strict=False))
    flat = [
        [v for run in side for v in getattr(run, key)]
        for key in ("gold", "proxy")
        for side in ([a for a, _ in pairs], [b for _, b in pairs])
    ]
    prompts = [p for run, _ in pairs for p in range(len(run.gold))]
    gold = paired_difference(flat[0], flat[1], clusters=prompts)
    proxy = paired_difference(flat[2], flat[3], clusters=prompts)
    change = f"gold {gold.mean:+.3f} [{gold.low:+.3f}, {gold.high:+.3f}], proxy {proxy.mean:+.3f} from {ordered[peak][0]} to {name}"
    if gold.high < 0 and proxy.mean > 0:
        return f"{method}: over-optimisation: {change}."
    return f"{method}: no turnover that the data can tell ({change})."


def exact_tilt(reference_XY: Any, proxy_XY: Any, gold_XY: Any, betas: Sequence[float]) -> list[dict[str, float]]:
    """The limit on an enumerable task, exact: pi(y|x) ~ ref(y|x) exp(proxy/beta), the best proxy at each KL.

    Rows {beta, kl_nats, proxy, gold}.

    reference_XY: log-probabilities, float64 tensors all three."""
    rows = []
    for beta in betas:
        if beta <= 0:
            raise ValueError(f"beta must be above 0, got {beta}")
        logprob_XY = (reference_XY + proxy_XY / beta).log_softmax(dim=1)
        p_XY = logprob_XY.exp()
        kl, proxy, gold = (
            (p_XY * value).sum(1).mean().item() for value in (logprob_XY - reference_XY, proxy_XY, gold_XY)
        )
        rows.append({"beta": beta, "kl_nats": kl, "proxy": proxy, "gold": gold})
    return rows


def exact_best_of_n(reference_XY: Any, proxy_XY: Any, gold_XY: Any, ns: Sequence[int]) -> list[Point]:
    """Best-of-n on an enumerable task, exact: P(y) = F(y)^n - F(y-)^n, F the reference's mass of answers up to y in order of proxy.

    At its true KL, which is under the bound that sampling has to make do with. Proxy values of a prompt must be distinct."""
    order_XY = proxy_XY.argsort(dim=1)
    reference_XY, proxy_XY, gold_XY = (value.gather(1, order_XY) for value in (reference_XY, proxy_XY, gold_XY))
    reference_XY = reference_XY.log_softmax(dim=1)  # float32 models sum to 1 within 1e-6, and n is a power
    p_XY = reference_XY.exp()
    upto_XY = p_XY.cumsum(1).clamp(max=1.0)
    before_XY = upto_XY - p_XY
    points = []
    for n in ns:
        best_XY = (upto_XY**n - before_XY.clamp(min=0.0) ** n).clamp(min=0.0)
        log_XY = best_XY.clamp(min=1e-300).log()
        values = [(best_XY * value).sum(1).mean().item() for value in (log_XY - reference_XY, proxy_XY, gold_XY)]
        proxy, gold = (Estimate(value, value, value, p_XY.numel()) for value in values[1:])
        points.append(Point("best-of-n, exact", f"n {n}", 1, values[0], False, proxy, gold))
    return points


COLUMNS = ["method", "setting", "seeds", "sqrt KL", "KL, nats", "proxy", "gold"]


def cells(points: Sequence[Point]) -> list[list[str]]:
    """The points as a table's rows, under COLUMNS; a KL that is only bounded has "<=" before it."""
    rows = []
    for point in points:
        mark = "<= " if point.kl_is_bound else ""
        root = math.sqrt(max(point.kl_nats, 0))
        spread = [f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in (point.proxy, point.gold)]
        rows.append(
            [point.method, point.setting, str(point.seeds), f"{mark}{root:.2f}", f"{mark}{point.kl_nats:.2f}", *spread]
        )
    return rows


def table(points: Sequence[Point]) -> str:
    """The points as a Markdown table."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [COLUMNS, ["---"] * len(COLUMNS), *cells(points)])


def figure_svg(points: Sequence[Point], limit: Sequence[Mapping[str, float]] = ()) -> str:
    """Proxy (open) and gold (filled) against sqrt(KL), a colour a method, as SVG; same points, same bytes. limit: `exact_tilt`."""
    import io

    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "plumbline", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
        for number, method in enumerate(dict.fromkeys(point.method for point in points)):
            own = sorted((point for point in points if point.method == method), key=lambda point: point.kl_nats)
            x = [math.sqrt(max(point.kl_nats, 0)) for point in own]
            colour = f"C{number}"
            for name, style in (
                ("gold", {"marker": "o", "linestyle": "-"}),
                ("proxy", {"marker": "o", "linestyle": "--", "fillstyle": "none"}),
            ):
                values = [getattr(point, name) for point in own]
                y = [value.value for value in values]
                spread = [[value.value - value.low for value in values], [value.high - value.value for value in values]]
                bound = " (KL bound)" if own[0].kl_is_bound else ""
                axes.errorbar(
                    x,
                    y,
                    yerr=spread,
                    color=colour,
                    capsize=2,
                    linewidth=1,
                    markersize=4,
                    label=f"{method}, {name}{bound}",
                    **style,
                )
        for name, style in (("gold", "-"), ("proxy", "--")):
            if limit:
                axes.plot(
                    [math.sqrt(row["kl_nats"]) for row in limit],
                    [row[name] for row in limit],
                    style,
                    color="black",
                    linewidth=0.8,
                    label=f"exact tilt, {name}",
                )
        axes.set_xlabel("sqrt(KL to the reference), nats^0.5")
        axes.set_ylabel("score on held-out prompts")
        axes.legend(fontsize=7, frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return out.getvalue()


def as_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The points as plain values."""
    return [asdict(point) for point in points]
