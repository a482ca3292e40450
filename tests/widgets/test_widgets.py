"""Widgets without a browser: what they hold, what they refuse, what they draw."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from aigc_lessons import plots
from aigc_lessons.diffusion.samplers import sample
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.training.loop import StepLog
from aigc_lessons.widgets import figure as figures
from aigc_lessons.widgets import live
from aigc_lessons.widgets.course_map import CourseMap
from aigc_lessons.widgets.guidance import GuidanceExplorer, Guided, guided_digits
from aigc_lessons.widgets.live import TrainingView, watch
from aigc_lessons.widgets.player import Player, trajectory


def test_player_packs_frames_in_order():
    panels = {"a": np.arange(24, dtype=np.uint8).reshape(3, 2, 4), "b": np.full((3, 2, 4), 9, np.uint8)}
    player = Player(panels, ["x", "y", "z"], "time")
    assert player.shape == [3, 2, 4]
    assert np.frombuffer(player.frames, np.uint8).reshape(2, 3, 2, 4)[0, 1].tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert "3 frames" in repr(player)
    with pytest.raises(ValueError, match="same shape"):
        Player({"a": np.zeros((3, 2, 4)), "b": np.zeros((3, 2, 5))}, ["x"] * 3, "t")
    with pytest.raises(ValueError, match="3 frames need as many captions, got 2"):
        Player({"a": np.zeros((3, 2, 4))}, ["x"] * 2, "t")


def test_trajectory_begins_with_noise_and_ends_with_the_sample(generator):
    schedule = cosine_schedule(T=20)
    x_T = torch.randn(4, 1, 6, 6, generator=generator)
    walk = list(sample(lambda x, t: 0.5 * x, schedule, x_T, method="ddim", steps=5))
    panels, times = trajectory(x_T, walk, schedule, columns=2)
    assert times == [20, 16, 12, 8, 4, 0]
    assert panels["x_t"].shape == panels["estimate of x_0"].shape == (6, 14, 14)
    # ink (1) is dark, paper (-1) is white
    assert panels["x_t"][0, 0, 0] == round((1 - x_T[0, 0, 0, 0].clamp(-1, 1).item()) / 2 * 255)
    assert np.array_equal(panels["estimate of x_0"][-1], panels["estimate of x_0"][-2])


def test_course_map_holds_its_data():
    parts = [{"title": "One", "lessons": [{"number": "00", "title": "Start", "ready": False, "after": []}]}]
    assert CourseMap(parts).parts == parts


class Judge(torch.nn.Module):
    def forward(self, x):
        return torch.eye(10)[: len(x)]


def test_guidance_explorer_shows_what_the_slider_says(generator):
    seen = []

    def draw(scale):
        seen.append(scale)
        images = torch.full((10, 1, 8, 8), -1.0 + 0.1 * scale)
        return Guided(images, torch.arange(10), 0.5)

    explorer = GuidanceExplorer(draw, list(range(10)))
    first = explorer.picture.value
    explorer.slider.value = 3.0
    assert seen == [1.0, 3.0]
    assert explorer.picture.value != first
    assert bytes(explorer.picture.value).startswith(b"\x89PNG")
    assert "10 of 10" in explorer.words.value
    assert not plt.get_fignums()


def test_guided_digits_follow_the_scale(generator):
    schedule, labels = cosine_schedule(T=50), torch.arange(10)
    x_T = torch.randn(10, 1, 8, 8, generator=generator)

    def denoise(x, t, y):
        return torch.where(y == 10, 0.0, 0.2)[:, None, None, None].expand_as(x)

    for scale in (0.0, 1.0, 5.0):
        guided = guided_digits(denoise, schedule, Judge(), x_T, labels, 10, scale)
        assert torch.allclose(guided.images, torch.full_like(x_T, 0.2 * scale), atol=1e-5)
    assert guided.saturated == 1.0


def logs(n, stop_at=None):
    closed = []

    def run():
        try:
            for k in range(1, n + 1):
                if k == stop_at:
                    raise KeyboardInterrupt
                yield StepLog(k, 1 / k, 0.1, 0.01 * k, None, torch.nn.Identity(), dict)
        finally:
            closed.append(True)

    return run(), closed


def test_watching_collects_the_logs():
    run, closed = logs(5)
    assert [log.step for log in watch(run, 5)] == [1, 2, 3, 4, 5]
    assert closed


def test_the_stop_button_keeps_what_there_is(capsys):
    run, closed = logs(5, stop_at=4)
    assert [log.step for log in watch(run, 5)] == [1, 2, 3]
    assert closed
    assert capsys.readouterr().out == "stopped at step 3 of 5; what was learned so far is kept\n"


@pytest.fixture(params=["pipe", "notebook"])
def screen(request, monkeypatch):
    monkeypatch.setattr(live, "display", lambda view: None)
    choice = live._Notebook if request.param == "notebook" else lambda total, *_: live._Screen(total)
    monkeypatch.setattr(live, "_screen", choice)


def pressed(run, times):
    """The same logs, with the stop button pressed before the first."""
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)
    yield from run


def test_the_stop_button_waits_for_the_first_log(screen, capsys):
    """A lesson goes on with history[-1]: there must be one."""
    before = signal.getsignal(signal.SIGINT)
    run, _ = logs(5)
    assert [log.step for log in watch(pressed(run, 1), 5)] == [1]
    assert capsys.readouterr().out == "stopped at step 1 of 5; what was learned so far is kept\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_pressed_twice_it_waits_for_nothing(screen, capsys):
    before = signal.getsignal(signal.SIGINT)
    run, _ = logs(5)
    assert watch(pressed(run, 2), 5) == []
    assert capsys.readouterr().out.startswith("stopped before the first step was done; the network is as it was")
    assert signal.getsignal(signal.SIGINT) is before


def test_watching_works_beside_the_main_thread():
    run, _ = logs(3)
    with ThreadPoolExecutor(1) as pool:
        assert len(pool.submit(watch, run, 3).result()) == 3


def test_nothing_left_to_do_is_an_empty_history(screen):
    assert watch((log for log in ()), 5) == []


def test_the_notebook_view_draws(monkeypatch):
    shown = []
    monkeypatch.setattr(live, "display", shown.append)
    monkeypatch.setattr(live, "_screen", live._Notebook)
    run, _ = logs(6)
    drawn = []
    watch(run, 6, lambda ax, network: drawn.append(ax.plot([0, 1], [0, 1])), every=0.0)
    (view,) = shown
    assert isinstance(view, TrainingView)
    assert view.bar.value == 6
    assert bytes(view.picture.value).startswith(b"\x89PNG")
    assert "step 6 of 6" in view.words.value
    assert len(drawn) >= 2
    assert not plt.get_fignums()


def drawing(slope=1.0):
    figure, (ax,) = plots.panels(1)
    plots.show_line(ax, range(50), [slope * k for k in range(50)], xlabel="x", ylabel="y")
    return figure


def test_figures_are_described_and_summarised(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", lambda obj, metadata: shown.append((obj, metadata)))
    monkeypatch.setenv(figures.RECORD, str(tmp_path / "record"))
    figures.show(drawing(), "a line that rises")
    (obj, metadata), line = shown[0], (tmp_path / "record").read_text()
    assert repr(obj) == "a line that rises"
    assert obj._repr_png_()[1] == {"alt": "a line that rises"}
    assert figures.differs(json.loads(line), metadata["figure"]) == ""
    with pytest.raises(ValueError, match="describe the figure"):
        figures.show(drawing(), " ")
    plt.close("all")


def test_a_planted_change_in_a_figure_is_noticed():
    kept = figures.summarise(drawing())
    assert figures.differs(figures.summarise(drawing()), kept) == ""
    assert "moved" in figures.differs(figures.summarise(drawing(1.1)), kept)
    relabelled = drawing()
    relabelled.axes[0].set_xlabel("t")
    assert "was 'x'" in figures.differs(figures.summarise(relabelled), kept)
    more = drawing()
    more.axes[0].plot([1, 2])
    assert "entries" in figures.differs(figures.summarise(more), kept)
    plt.close("all")


def test_empty_figures_are_noticed():
    empty, _ = plots.panels(1)
    flat, (ax,) = plots.panels(1)
    ax.imshow(np.zeros((3, 3)))
    assert figures.is_empty(figures.summarise(empty))
    assert figures.is_empty(figures.summarise(flat))
    assert not figures.is_empty(figures.summarise(drawing()))
    for bars in ("bar", "barh"):
        for lengths, empty in (([1, 2, 4], False), ([3, 3, 3], True)):
            figure, ax = plt.subplots()
            getattr(ax, bars)(range(3), lengths, 0.5)
            assert figures.is_empty(figures.summarise(figure)) == empty
    plt.close("all")


def test_tiles_lay_out_row_by_row():
    images = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, 1, 2, 2)
    sheet = plots.tile(images, columns=2, gap=1)
    assert sheet.shape == (5, 5)
    assert sheet[0, 0] == 1.0  # paper
    assert sheet[0, 3] == 0.5
    assert sheet[3, 0] == 0.0  # ink
    assert sheet[4, 4] == 1.0  # nothing there
