"Studies that are interrupted, extended, or in which runs fail; run with the command line in processes of their own"
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
import synaug
from pandas.testing import assert_frame_equal
from synaug.study.progress import read_status, status_lines

PARAMETERS = """
replicate = 0
out = ''
cache = ''
effect = 0.02
arms = ['real', 'add']
fails_at = -1
user_error = False
"""
BODY = """
import os, random, time
from pathlib import Path
from synaug.errors import BudgetError
from synaug.outcome import save_rows
(Path(cache)/f'{replicate}.txt').write_text('kept')
while replicate and os.path.exists(os.environ.get('HOLD', '')): time.sleep(.05)
if replicate == fails_at and user_error: raise BudgetError('labels_per_class=9: too many')
if replicate == fails_at: raise RuntimeError('the disk is full')
draw = random.Random(replicate).random
rows = []
for split in 'val', 'test':
    for arm in arms:
        value = .7 + .05*draw() + effect*(arm != 'real')
        rows.append(dict(arm=arm, split=split, metric='macro_f1', value=value, seconds=time.time()))
facts = dict(updates=10, n_real=20, n_extra=0, fingerprint='fake')
save_rows(out, rows, **facts, threads=os.environ['OMP_NUM_THREADS'])
"""
ENV = os.environ | dict(PYTHONPATH=str(Path(synaug.__file__).parent.parent), COLUMNS='160')


def write_notebook(path, *cells, tags=('parameters',)):
    cells = [nbformat.v4.new_code_cell(c) for c in cells]
    cells[0].metadata['tags'] = list(tags)
    metadata = dict(kernelspec=dict(name='python3', display_name='python3'))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A study file with its notebook; three replicates"
    folder = tmp_path_factory.mktemp('fake')
    write_notebook(folder/'fake.ipynb', PARAMETERS, BODY)
    (folder/'fake.yaml').write_text('notebook: fake.ipynb\ntitle: A made-up study\nreplicates: 3\n')
    return folder


def start(folder, *options, out, hold=''):
    """A study in a process of its own; while the file `hold` exists, no replicate but 0 ends.
    It hears SIGINT even if this process, started in the background, does not"""
    synaug = [sys.executable, '-c', 'from synaug.cli import main; main()']
    return subprocess.Popen(
        [*synaug, 'run', 'fake.yaml', '--out', out, '--workers', '2', *options],
        cwd=folder,
        env=ENV | dict(HOLD=str(hold)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def rows_of(out):
    "Name -> when its rows were written, of the finished runs"
    found = out.glob('runs/*/rows.parquet')
    return {p.parent.name: p.stat().st_mtime_ns for p in found if p.parent.suffix != '.part'}


def ledger(out): return pd.read_parquet(out/'ledger.parquet').drop(columns='seconds')


@pytest.fixture(scope='module')
def finished(folder):
    "The study run without interruption: its folder and what was printed"
    code, said, wrong = finish(start(folder, out='whole'))
    assert code == 0, wrong
    return folder/'whole', said


def test_finished_study(finished):
    out, said = finished
    table = pd.read_parquet(out/'ledger.parquet')
    assert len(table) == 3*2*2 and not table.duplicated(['replicate', 'arm', 'split', 'metric']).any()
    assert list(table.columns[:6]) == ['study', 'replicate', 'arm', 'split', 'metric', 'value']
    assert {'effect', 'n_split', 'version'} <= set(table)
    verdict = pd.read_csv(out/'verdict.csv')
    assert list(verdict.columns) == 'arm question split metric baseline n difference low high p p_holm verdict'.split()
    mine = table.pivot(index='replicate', columns=['split', 'arm'], values='value')
    test = verdict[verdict.split == 'test'].iloc[0]
    assert test.n == 3 and abs(test.difference - (mine['test', 'add'] - mine['test', 'real']).mean()) < 1e-12
    for part in ('3/3', 'Cannot tell yet', 'inconclusive', str(out/'report.html')): assert part in said, part
    assert '\x1b' not in said
    assert sorted(p.name for p in (out/'cache').iterdir()) == ['0.txt', '1.txt', '2.txt']
    assert not list(out.rglob('*.part')) and not list(out.rglob('*.tmp'))
    assert status_lines(read_status(out)) == ['fake: 3 of 3 runs finished, and the report']
    told = json.loads((out/'report.json').read_text())
    assert told['title'] == 'A made-up study' and told['points'][0]['replicates'] == 3


def test_report_needs_no_network(finished):
    html = (finished[0]/'report.html').read_text()
    assert not re.findall(r'<(?:script|link|iframe|object|embed)\b', html) and not re.findall(r'url\(|@import', html)
    sources = re.findall(r'<img[^>]*?src="([^"]{12})', html)
    assert len(sources) >= 3 and set(sources) == {'data:image/s'}         # charts, as SVG
    assert 'A made-up study' in html and 'synaug run fake.yaml' in html
    assert 'smallest' in html                                              # 3 replicates are too few
    assert 'id="Audits"' not in html and 'had been in the test set' not in html        # this notebook measures neither
    assert 'from synaug' not in html and 'from synaug' in (finished[0]/'report.ipynb').read_text()


def alive(processes): return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def command_of(process):
    "Its command line; '' if it has just ended"
    try: return ' '.join(process.cmdline())
    except psutil.NoSuchProcess: return ''


def stop_when(process, out, how):
    "Signal a study once replicate 0 is finished and the two others, which are held, have kernels; its processes"
    deadline = time.time() + 180
    while True:
        family = psutil.Process(process.pid).children(recursive=True)
        done, begun = rows_of(out), {p.stem for p in (out/'cache').glob('*.txt')}
        kernels = sum('ipykernel' in command_of(p) for p in alive(family))
        if len(done) == 1 and begun == {'0', '1', '2'} and kernels >= 2: break
        assert process.poll() is None, process.communicate()
        assert time.time() < deadline, (done, begun, kernels)
        time.sleep(.05)
    process.send_signal(how)
    return family


def gone(family, seconds):
    deadline = time.time() + seconds
    while alive(family) and time.time() < deadline: time.sleep(.05)
    return not alive(family)


def test_interrupted_study_ends_with_the_same_ledger(folder, finished):
    out, hold = folder/'stopped', folder/'hold'
    hold.touch()
    first = start(folder, out='stopped', hold=hold)
    family = stop_when(first, out, signal.SIGINT)
    code, said, wrong = finish(first)
    assert code == 130 and wrong.count('\n') == 1
    assert 'continue' in wrong and 'synaug run fake.yaml --out stopped' in wrong
    assert gone(family, 5), [p.cmdline() for p in alive(family)]
    done = rows_of(out)
    assert len(done) == 1 and not (out/'ledger.parquet').exists()
    line, = status_lines(read_status(out), running=False)
    assert line.startswith('fake: stopped, 1 of 3 runs finished; to go on')
    assert line.endswith('synaug run fake.yaml --out stopped --workers 2')

    second = start(folder, out='stopped', hold=hold)
    family = stop_when(second, out, signal.SIGKILL)
    second.communicate()
    assert len(family) >= 2 and gone(family, 5), [p.cmdline() for p in alive(family)]
    assert rows_of(out) == done

    hold.unlink()
    code, said, wrong = finish(start(folder, out='stopped'))
    assert code == 0, wrong
    assert done.items() <= rows_of(out).items()                            # what was finished was not done again
    assert_frame_equal(ledger(out), ledger(finished[0]))
    assert (out/'verdict.csv').read_text() == (finished[0]/'verdict.csv').read_text()


def test_more_replicates_and_lost_rows(folder, finished):
    out = finished[0]
    before, old = rows_of(out), ledger(out)
    lost, damaged, _ = sorted(before)
    (out/'runs'/lost/'rows.parquet').unlink()
    (out/'runs'/damaged/'rows.parquet').write_bytes(b'PAR1')
    before = rows_of(out) | {lost: 0}
    code, said, wrong = finish(start(folder, '--replicates', '4', out='whole'))
    assert code == 0, wrong
    after = rows_of(out)
    assert len(after) == 4 and '4/4' in said and '1/4' not in said
    assert {n for n in before if after[n] != before[n]} == {lost, damaged}
    assert_frame_equal(ledger(out)[:len(old)], old)                        # the lost runs gave the same rows again


def test_failing_replicate(folder):
    code, said, wrong = finish(start(folder, '-p', 'fails_at=1', '--replicates', '2', out='broken'))
    out = folder/'broken'
    assert code == 1 and wrong.count('\n') == 1 and 'Traceback' not in wrong
    named = Path(re.search(r'(/\S+notebook\.ipynb)', wrong)[1])
    assert '1 of 2 runs failed' in wrong and 'RuntimeError: the disk is full' in wrong
    assert 'the disk is full' in named.read_text()
    assert ledger(out).replicate.unique().tolist() == [0] and (out/'report.html').exists()
    assert 'There is one replicate' in (out/'report.html').read_text()


def test_error_of_the_user_in_a_run(folder):
    settings = '-p', 'fails_at=0', '-p', 'user_error=true'
    code, said, wrong = finish(start(folder, *settings, '--replicates', '1', out='user'))
    assert code == 2 and 'BudgetError: labels_per_class=9' in wrong and not (folder/'user'/'ledger.parquet').exists()


def test_a_run_that_hangs_is_ended_and_told(folder):
    hold = folder/'held'
    hold.touch()
    code, said, wrong = finish(start(folder, '--replicates', '2', '--limit', '.3', out='hangs', hold=hold))
    assert code == 1 and '1 of 2 runs failed' in wrong and 'took longer than a run may' in wrong
    assert len(rows_of(folder/'hangs')) == 1 and (folder/'hangs'/'report.html').exists()


def test_report_waits_for_nobody(folder, finished):
    "Ledger and report are never rebuilt by two processes at a time"
    from synaug.study.runner import alone_in
    command = [sys.executable, '-c', 'from synaug.cli import main; main()', 'report', str(finished[0])]
    with alone_in(finished[0]): told = subprocess.run(command, capture_output=True, text=True, env=ENV)
    assert told.returncode == 2 and 'another synaug is running' in told.stderr


def test_names_that_would_do_something(folder):
    "A split called as a formula, a tag, a brace or mathematics is a name everywhere"
    odd = '=1+1 <img src=x onerror=alert(1)> {arms} $x$'
    body = BODY.replace("'val', 'test'", f"'val', {odd!r}")
    write_notebook(folder/'odd.ipynb', PARAMETERS, body)
    (folder/'odd.yaml').write_text('notebook: odd.ipynb\ntitle: "Odd <script>"\nreplicates: 2\n')
    command = [sys.executable, '-c', 'from synaug.cli import main; main()', 'run', 'odd.yaml', '--out', '{arms}']
    told = subprocess.run(command, capture_output=True, text=True, env=ENV, cwd=folder)
    assert told.returncode == 0, told.stderr
    page, table = ((folder/'{arms}'/name).read_text() for name in ('report.html', 'verdict.csv'))
    assert '<img src=x' not in page and '<script' not in page and 'onerror=alert(1)&gt;' in page
    assert not re.search('(^|,)"?=', table, re.M) and "'=1+1" in table


def test_threads_follow_from_the_study(finished):
    "Not from what is left to do: the lost run of above was alone, and yet got as many threads"
    assert ledger(finished[0]).threads.nunique() == 1
