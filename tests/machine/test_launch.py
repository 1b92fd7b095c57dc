import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from nifbuild.errors import InterruptedRun, RunError, SpecError
from nifbuild.machine.launch import launch, require_processes

PROLOGUE = """
import os, signal, sys, time
from nifbuild.errors import InterruptedRun, Problem, RunError, SpecError
from nifbuild.machine.launch import reporting_failure
rank = int(os.environ["RANK"])
"""


def run(script, processes=3, **options):
    launch([sys.executable, "-c", PROLOGUE + textwrap.dedent(script)], processes, **options)


def test_the_environment_that_processes_meet_by(tmp_path):
    run(
        f"""
        import json
        keys = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"]
        keys += ["MASTER_ADDR", "MASTER_PORT"]
        with open("{tmp_path}/" + str(rank), "w") as file:
            json.dump([os.environ[key] for key in keys], file)
        """
    )
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    port = found[0].pop()
    assert 1024 < int(port) < 65536
    assert [row[:5] for row in found] == [[str(r), str(r), "3", "3", "127.0.0.1"] for r in range(3)]


def test_only_the_first_one_is_heard(capfd):
    run("print('out', rank, flush=True); print('err', rank, file=sys.stderr)")
    assert capfd.readouterr() == ("out 0\n", "err 0\n")


@pytest.mark.parametrize("kind", [RunError, SpecError])
def test_the_first_failure_is_the_one_that_is_raised(kind, capfd):
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        run(
            f"""
            with reporting_failure():
                if rank == 1:
                    raise {kind.__name__}(Problem("the disk", path="a.b", fix="buy one", code="c"))
                time.sleep(0.3)
                if rank == 2:
                    raise RuntimeError("connection closed by peer")
                time.sleep(60)
            """,
            grace_seconds=1.0,
        )
    assert str(caught.value) == "a.b: the disk\n  buy one"
    assert caught.value.exit_code == (2 if kind is SpecError else 1)
    assert time.monotonic() - started < 20  # the one that slept was ended
    assert capfd.readouterr() == ("", "")


def test_a_failure_that_cannot_be_passed_on_is_printed(capfd):
    with pytest.raises(RunError, match="process 0 ended with exit code 1"):
        run(
            """
            os.environ["NIFBUILD_FAILURE"] = "/nowhere/0.json"
            with reporting_failure():
                raise RunError(Problem("the disk is full", fix="make room"))
            """,
            processes=1,
        )
    assert capfd.readouterr() == ("", "the disk is full\n  make room\n")


def test_a_defect_shows_one_traceback(capfd):
    with pytest.raises(SystemExit) as caught:
        run("with reporting_failure():\n    raise LookupError('a defect')")
    assert caught.value.code == 1
    assert capfd.readouterr().err.count("LookupError: a defect") == 1


def test_an_interruption_that_nothing_was_said_about():
    for code in (130, 129):
        with pytest.raises(InterruptedRun) as caught:
            run(f"sys.exit({code} if rank == 1 else 0)")
        assert caught.value.exit_code == code


def test_death_by_a_signal_is_the_cause():
    with pytest.raises(RunError, match="process 2 was ended by SIGKILL"):
        run(
            """
            with reporting_failure():
                if rank == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.3)
                if rank == 0:
                    raise RuntimeError("connection closed by peer")
                os.kill(os.getpid(), signal.SIGABRT)
            """
        )


def test_an_exit_code_without_a_word():
    with pytest.raises(RunError, match="process 0 ended with exit code 7"):
        run("sys.exit(7 if rank == 0 else 0)")


def test_an_interruption_waits_for_the_one_that_saves(tmp_path):
    with pytest.raises(InterruptedRun, match="saved") as caught:
        run(
            f"""
            with reporting_failure():
                if rank == 0:
                    time.sleep(1)
                    open("{tmp_path}/saved", "w").close()
                raise InterruptedRun(Problem("saved"), signal.SIGTERM)
            """
        )
    assert caught.value.exit_code == 143
    assert (tmp_path / "saved").exists()


def test_signals_reach_all_processes(tmp_path):
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER.format(folder=tmp_path)], text=True, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(20) == 0, launcher.stderr.read()
    assert sorted(p.name for p in tmp_path.glob("got*")) == ["got0", "got1"]
    launcher.stderr.close()


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds the signal", "cannot"])
def test_no_process_outlives_a_launcher_that_is_killed(tmp_path, heeds):
    """One is asked to save and stop; one that cannot hear, as it waits for another, is ended."""
    script = ORPHANED_LAUNCHER.format(folder=tmp_path, heeds=heeds)
    launcher = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        launcher.kill()
        assert launcher.wait() == -signal.SIGKILL
        deadline = time.monotonic() + 60
        path = tmp_path / ("saved" if heeds else "ending")
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.exists()
        orphan = int((tmp_path / "started").read_text())
        while (alive := is_running(orphan)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not alive
    finally:
        launcher.kill()


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")  # a container may leave what has ended uncollected
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


ORPHANED_LAUNCHER = """
import sys
from nifbuild.machine.launch import launch
script = '''
import os, signal, sys, time
from pathlib import Path
from nifbuild.machine.launch import reporting_failure
folder = Path("{folder}")
def save(number, frame):
    (folder / "saved").touch()
    sys.exit(143)
def end(code, leave=os._exit):
    (folder / "ending").touch()
    leave(code)
signal.signal(signal.SIGTERM, save if {heeds} else signal.SIG_IGN)
os._exit = end
with reporting_failure(watch_seconds=0.05, saving_seconds=0.1):
    (folder / "writing").write_text(str(os.getpid()))
    (folder / "writing").rename(folder / "started")
    time.sleep(600)
'''
launch([sys.executable, "-c", script], 1)
"""


LAUNCHER = """
import sys
from nifbuild.machine.launch import launch
script = '''
import os, signal, sys
rank = os.environ["RANK"]
def note(number, frame):
    open("{folder}/got" + rank, "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, note)
open("{folder}/ready" + rank, "w").close()
signal.pause()
'''
launch([sys.executable, "-c", script], 2)
"""


def test_needs_no_torch():
    code = "import sys, nifbuild.machine.launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_launchers_number(monkeypatch):
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "4")
    require_processes(None)
    require_processes(4)
    with pytest.raises(SpecError, match="--processes 2, but a launcher has started 4"):
        require_processes(2)
