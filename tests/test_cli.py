"Mistakes on the command line: one line, exit code 2, nothing written"
import subprocess, sys, time

import numpy as np
import pytest
from synaug.cli import main
from synaug.data.simulate import simulate
from test_study import BODY, ENV, PARAMETERS, write_notebook


@pytest.fixture
def here(tmp_path, monkeypatch):
    write_notebook(tmp_path/'fake.ipynb', PARAMETERS + "labels_per_class = 2\nsource = 'simulate'\nlr = 0.1\n", BODY)
    write_notebook(tmp_path/'bare.ipynb', PARAMETERS, BODY, tags=())
    for name, text in dict(fake='notebook: fake.ipynb', bare='notebook: bare.ipynb', typo='notebook: fake.ipynb\nreplicats: 3', broken='a: [',
                           grid='notebook: fake.ipynb\ngrid: {efect: [1, 2]}', kind='notebook: fake.ipynb\nparameters: {lr: fast}',
                           gone='notebook: nowhere.ipynb').items():
        (tmp_path/f'{name}.yaml').write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def synaug(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['synaug', *arguments])
    with pytest.raises(SystemExit) as stopped: main()
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


@pytest.mark.parametrize('arguments, says', [
    (['quikc'], 'unknown study quikc; did you mean quick?'),
    (['nowhere.yaml'], 'study file nowhere.yaml does not exist'),
    (['broken.yaml'], 'broken.yaml is not readable'),
    (['typo.yaml'], 'unknown key replicats; did you mean replicates?'),
    (['gone.yaml'], 'notebook nowhere.ipynb is neither beside the study nor shipped'),
    (['bare.yaml'], "bare.ipynb has no cell tagged 'parameters'"),
    (['grid.yaml'], 'unknown parameter efect; did you mean effect?'),
    (['kind.yaml'], "parameter lr takes a number, such as 0.1; found 'fast'"),
    (['fake.yaml', '-p', 'lables_per_class=3'], 'unknown parameter lables_per_class; did you mean labels_per_class?'),
    (['fake.yaml', '-p', 'labels_per_class=few'], 'parameter labels_per_class takes a whole number'),
    (['fake.yaml', '-p', 'lr'], '-p takes name=value; found lr'),
    (['fake.yaml', '-p', 'replicate=3'], 'replicate is set by the runner'),
    (['fake.yaml', '-p', 'arms=real,cutmix'], 'cutmix'),
    (['fake.yaml', '-p', 'arms=[add]'], 'baseline real is not among the arms'),
    (['fake.yaml', '--replicates', '0'], 'replicates must be at least 1'),
    (['fake.yaml', '-p', 'source=nowhere.npz'], 'nowhere.npz'),
    (['fake.yaml', '-p', 'source=small.npz', '-p', 'labels_per_class=50'], 'labels_per_class=50'),
    (['fake.yaml', '-p', 'source=small.npz', '-p', 'labels_per_class=3', '-p', 'arms=real,oracle-900%'], 'an oracle arm needs 81 labelled training images'),
])
def test_mistakes(here, capsys, monkeypatch, arguments, says):
    rng = np.random.default_rng(0)
    images = {f'{s}_images': rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for s, n in dict(train=12, val=6, test=6).items()}
    np.savez(here/'small.npz', **images, **{k.replace('images', 'labels'): np.arange(len(v)) % 3 for k, v in images.items()})
    before = sorted(here.rglob('*'))
    code, said, wrong = synaug(capsys, monkeypatch, 'run', *arguments, '--out', 'results')
    assert (code, said) == (2, '') and wrong.startswith('error: ') and wrong.count('\n') == 1 and says in wrong
    assert sorted(here.rglob('*')) == before


def test_folder_of_something_else(here, capsys, monkeypatch):
    write_notebook(here/'plain.ipynb', PARAMETERS, BODY); (here/'plain.yaml').write_text('notebook: plain.ipynb')
    (here/'results').mkdir(); (here/'results'/'thesis.tex').write_text('')
    for command in (['run', 'plain.yaml', '--out', 'results'], ['report', 'results']):
        code, _, wrong = synaug(capsys, monkeypatch, *command)
        assert code == 2 and 'holds no study' in wrong
    assert [p.name for p in (here/'results').iterdir()] == ['thesis.tex']


def test_inspect_lists_near_duplicates_and_still_succeeds(here, capsys, monkeypatch):
    data = simulate(seed=0, size=16, n_train=30, n_val=14, n_test=14, n_pool=0, n_shift=0)
    again = (data.train.images[:12]*.9).round().astype(np.uint8)                                     # twelve cells of train, saved again for test
    arrays = {f'{k}_images': s.images for k, s in data.splits().items()} | {f'{k}_labels': s.labels.astype(np.uint8) for k, s in data.splits().items()}
    for name, extra in dict(clean=0, again=12).items():
        more = dict(test_images=np.concatenate([data.test.images, again[:extra]]), test_labels=np.concatenate([data.test.labels, data.train.labels[:extra]]).astype(np.uint8))
        np.savez(here/f'{name}.npz', **arrays | more)
    monkeypatch.setattr(sys, 'argv', ['synaug', 'inspect', 'again.npz'])
    main_returns(0)
    said = capsys.readouterr().out
    assert 'no problems' in said and '12 pairs of images in different splits look like the same picture; the 10 most alike' in said
    assert sum(line.split()[::2][:2] == ['train', 'test'] for line in said.splitlines()) == 10
    monkeypatch.setattr(sys, 'argv', ['synaug', 'inspect', 'clean.npz'])
    main_returns(0)
    assert 'same picture' not in capsys.readouterr().out


def main_returns(code):
    try: main()
    except SystemExit as stopped: assert (stopped.code or 0) == code
    else: assert code == 0


def test_unknown_option_and_command(here, capsys, monkeypatch):
    assert synaug(capsys, monkeypatch, 'run', 'fake.yaml', '--worker', '2')[0] == 2
    assert synaug(capsys, monkeypatch, 'rum')[0] == 2


def test_help_is_fast():
    began = time.time()
    said = subprocess.run([sys.executable, '-c', 'from synaug.cli import main; main()', 'run', '--help'], env=ENV, capture_output=True, text=True)
    assert said.returncode == 0 and '--replicates' in said.stdout and '--workers' in said.stdout
    assert time.time() - began < 5           # about half a second on an idle machine; torch alone takes longer than 5 on a busy one
