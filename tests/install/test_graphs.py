"""What export can make here is said by what is on PATH and what is installed."""

from interformer_rec.install import graphs


def test_a_compiler_and_the_packages_make_both(monkeypatch, tmp_path):
    (tmp_path / "clang++").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "clang++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(graphs, "ONNX", ("json",))
    assert graphs.automatic() == ("aoti", "onnx")
    assert graphs.sentence().endswith("AOTInductor (clang++), ONNX")


def test_without_either_the_modules_run_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(graphs, "ONNX", ("json", "no_such_package"))
    assert graphs.automatic() == ()
    assert "no AOTInductor (g++, clang++, c++: none is on PATH)" in graphs.sentence()
    assert graphs.sentence().endswith("no ONNX (not installed: no_such_package)")
