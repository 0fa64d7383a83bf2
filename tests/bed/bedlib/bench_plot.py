# SPDX-License-Identifier: BSD-2-Clause
"""Plots of what scripts/bench measured, drawn by gnuplot(1)."""

import statistics
import subprocess

DEPTHS = (1, 4, 32, 128)
WORKLOAD = "4k read, depth {}"
BACKENDS = {"qdisk": "qdisk", "blkbackd": "blkbackd, copying", "persistent": "blkbackd, persistent"}
PLACES = {"two": "in memory", "disk": "on disk"}


def points(results, backend, x, y):
    """Lines of a data block: medians over the turns, a point a depth."""
    lines = []
    for depth in DEPTHS:
        turns = results.get(WORKLOAD.format(depth), {}).get(backend)
        if turns:
            lines.append(f"{x(depth, turns)} {y(turns)} {depth}")
    return lines


def middle(turns, what):
    return statistics.median(turn[what] for turn in turns)


def plot(path, settings, title, axes, x, y, logscale):
    script = ['set terminal svg size 900,460 background rgb "white" font "sans,12"', f'set output "{path}"',
              f'set multiplot layout 1,2 title "{title}"', f'set xlabel "{axes[0]}"', f'set ylabel "{axes[1]}"',
              f"set logscale {logscale}", "set key outside below horizontal", "set grid"]
    for place, label in PLACES.items():
        curves = []
        for backend, name in BACKENDS.items():
            block = f"${place}_{backend}"
            script += [f"{block} << EOD", *points(settings[place], backend, x, y), "EOD"]
            curves.append(f"{block} using 1:2 with linespoints title '{name}', {block} using 1:2:3 with labels offset 0,0.7 notitle")
        script += [f'set title "{label}"', "plot " + ", ".join(curves)]
    subprocess.run(["gnuplot"], input="\n".join([*script, "unset multiplot", ""]), text=True, check=True)


def draw(settings, folder):
    """Writes performance-latency.svg and performance-cpu.svg; settings: as bench_report.page() takes them."""
    plot(f"{folder}/performance-latency.svg", settings, "4k random reads; points are depths", ("IOPS", "mean latency, us"),
         lambda _, turns: middle(turns, "iops"), lambda turns: middle(turns, "mean"), "xy")
    plot(f"{folder}/performance-cpu.svg", settings, "4k random reads", ("depth", "CPU of the backend per I/O, us"),
         lambda depth, _: depth, lambda turns: middle(turns, "cpu"), "xy")
