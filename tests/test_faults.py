"What a machine may do to a study - no space, names in the way - is told in one line, and nothing finished is lost"
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_study import BODY, ENV, PARAMETERS, rows_of, write_notebook

COMMAND = [sys.executable, '-c', 'from synaug.cli import main; main()', 'run', 'fake.yaml', '--no-timing', '--out']


@pytest.fixture
def folder(tmp_path):
    write_notebook(tmp_path/'fake.ipynb', PARAMETERS, BODY)
    (tmp_path/'fake.yaml').write_text('notebook: fake.ipynb\ntitle: A made-up study\nreplicates: 2\n')
    return tmp_path


def run(folder, out, **env):
    told = subprocess.run([*COMMAND, str(out)], capture_output=True, text=True, cwd=folder, env=ENV | env)
    return told.returncode, told.stderr


@pytest.mark.parametrize('out, code, says', [
    ('x'*300, 1, 'File name too long'), ('/proc/x', 1, 'No such file'), ('fake.yaml', 2, 'is a file; choose another'),
    ('taken', 1, 'Not a directory')])
def test_what_the_system_refuses_is_one_line(folder, out, code, says):
    (folder/'taken').mkdir()
    (folder/'taken'/'runs').touch()
    told = run(folder, out)
    assert told[0] == code and says in told[1] and told[1].count('\n') == 1, told[1]
    assert sorted(p.name for p in folder.iterdir()) == ['fake.ipynb', 'fake.yaml', 'taken']


@contextmanager
def mounted(place, *options):
    "A file system of its own at `place`"
    place.mkdir()
    command = ['mount', '-t', 'tmpfs', *options, 'none', str(place)]
    if os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip('nothing can be mounted here')
    try: yield place
    finally: subprocess.run(['umount', '-l', str(place)])


def test_a_folder_that_cannot_be_written(folder):
    with mounted(folder/'fixed', '-o', 'ro') as fixed: code, wrong = run(folder, fixed/'out')
    assert code == 2 and f'nothing can be written into {fixed}' in wrong and wrong.count('\n') == 1, wrong


@pytest.mark.slow
def test_a_full_disk_keeps_what_had_finished(folder):
    "A run fits, not all that follows; with space again the same command ends the study, and no run is repeated"
    with mounted(folder/'small', '-o', 'size=60k') as small:
        code, wrong = run(folder, small/'out')
        assert code == 1 and 'No space left on device; what had finished is kept' in wrong, wrong
        assert wrong.count('\n') == 1
        before = rows_of(small/'out')
        assert before
        subprocess.run(['mount', '-o', 'remount,size=50m', str(small)], check=True)
        code, wrong = run(folder, small/'out')
        assert code == 0 and (small/'out'/'report.html').exists(), wrong
        assert before.items() <= rows_of(small/'out').items()


@pytest.mark.slow
def test_no_module_of_the_working_folder_and_no_git(folder):
    for name in 'papermill', 'calendar', 'queue', 'random', 'statistics', 'yaml', 'synaug':
        (folder/f'{name}.py').write_text("raise SystemExit('a module of the working folder was imported')")
    told = subprocess.run(
        [str(Path(sys.executable).with_name('synaug')), *COMMAND[3:], 'out'],
        capture_output=True,
        text=True,
        cwd=folder,
        env=ENV | dict(PATH='/nowhere'))
    assert told.returncode == 0, told.stderr
    assert len(rows_of(folder/'out')) == 2
