"""The report of a run over many windows is written again when that takes a small share of the time, and by nobody else's clock."""

from __future__ import annotations

from types import SimpleNamespace

from interformer_rec.training.windows import report
from interformer_rec.training.windows.report import WindowReport


def test_reports_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock, written = [0.0], []

    def write(folder):
        written.append(clock[0])
        clock[0] += 0.1 * len(written)  # the log gets longer

    monkeypatch.setattr(report, "write_report", write)
    monkeypatch.setattr(report.time, "monotonic", lambda: clock[0])
    folder = SimpleNamespace(path=tmp_path, send=lambda: None)
    env = SimpleNamespace(on_main=lambda work: work())
    found = WindowReport(SimpleNamespace(env=env, folder=folder))
    found.window_ended()
    assert written == [0.0]
    for _ in range(1000):
        clock[0] += 1.0
        found.window_ended()
    spent = sum(0.1 * (n + 1) for n in range(len(written)))
    assert 5 < len(written) < 40 and spent <= report.SHARE * clock[0] + 0.1 * len(written)
    count = len(written)
    clock[0] = 1e6
    found.write()  # while the run waits for its next window
    found.write()
    assert len(written) == count + 1
