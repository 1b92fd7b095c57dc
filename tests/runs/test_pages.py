"""README.md and report.html in a run: a run's until people change them."""

import shutil

import pytest

from nifbuild.errors import RunError
from nifbuild.runs.directory import RunDirectory


@pytest.fixture
def run(two_epochs, tmp_path):
    shutil.copytree(two_epochs, tmp_path / "run")
    made = RunDirectory(tmp_path / "run")
    assert made.write_page("README.md", "a card") and made.write_page(
        "report.html", "<p>a page</p>"
    )
    return made


def names(run):
    return {path.name for path in run.path.iterdir()}


def test_they_are_written_again(run):
    assert run.write_page("README.md", "another card")
    assert (run.path / "README.md").read_text().startswith("another card\n<!-- ")


def test_one_that_was_changed_stays(run):
    (run.path / "README.md").write_text("my notes")
    assert not run.write_page("README.md", "another card")
    run.rewind_metrics(1)
    assert names(run) >= {"README.md"} and "report.html" not in names(run)
    run.require_free(overwrite=True)
    assert run.create(overwrite=True).endswith("before, too: README.md")
    assert (run.path / "README.md").read_text() == "my notes"


def test_they_go_with_the_run(run):
    assert run.create(overwrite=True) == ""
    assert not names(run) & {"README.md", "report.html"}


def test_they_go_with_the_figures_that_they_tell_of(run):
    (run.path / ".writing_README.md").write_text("a kill left this")
    run.begin_again()
    assert not {name for name in names(run) if "README" in name or "report" in name}


def test_a_folder_with_a_readme_may_become_a_run(tmp_path):
    (tmp_path / "README.md").write_text("# my project")
    run = RunDirectory(tmp_path)
    run.require_free(overwrite=False)
    assert run.create(overwrite=False).endswith("before, too: README.md")
    assert not run.write_page("README.md", "a card")
    assert (tmp_path / "README.md").read_text() == "# my project"


def test_a_link_is_not_followed(run, tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    (run.path / "README.md").unlink()
    (run.path / "README.md").symlink_to(tmp_path / "elsewhere")
    assert not run.write_page("README.md", "a card")
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_one_that_cannot_be_written_is_one_error(run):
    (run.path / ".writing_README.md").mkdir()
    with pytest.raises(RunError, match="cannot write to"):
        run.write_page("README.md", "another card")
    assert (run.path / "README.md").read_text().startswith("a card")
