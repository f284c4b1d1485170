"Mistakes on the command line: one line, exit code 2, nothing written"
import subprocess
import sys
import time

import numpy as np
import pytest
from synaug.cli import main
from synaug.data.simulate import simulate
from synaug.errors import RunFailed, mistakes
from synaug.study import beforehand, file, runner
from synaug.study.progress import Forecast
from test_study import BODY, ENV, PARAMETERS, write_notebook

OTHERS = """
labels_per_class = 2
source = 'simulate'
size = None
lr = 0.1
guidance = 1.5
generator_steps = 100
network = 'compact'
recipe = 'default'
loss = 'default'
device = ''
curation = 'random'
sampler = 'ddim'
objective = 'flow'
modules = 'all'
template = 'a cell, {label}'
base = ''
pool_folder = ''
weights_folder = ''
base_sources = ['cells=simulate']
"""
MOVED = '''
from synaug.images import budget
from synaug.study import save_rows
'''


STUDIES = dict(
    fake='notebook: fake.ipynb',
    bare='notebook: bare.ipynb',
    mine='notebook: mine.ipynb',
    moved='notebook: moved.ipynb',
    typo='notebook: fake.ipynb\nreplicats: 3',
    broken='a: [',
    grid='notebook: fake.ipynb\ngrid: {efect: [1, 2]}',
    points='notebook: fake.ipynb\ngrid: {network: [compact, resnet99]}',
    kind='notebook: fake.ipynb\nparameters: {lr: fast}',
    gone='notebook: nowhere.ipynb',
)


LAB_NETS = """
from synaug.classifiers.networks import CompactResNet as build

def three_channels(channels, n_classes, size): return build(3, n_classes, size)
def two_classes(channels, n_classes, size): return build(channels, 2, size)
def a_number(channels, n_classes, size): return 7
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    write_notebook(tmp_path/'fake.ipynb', PARAMETERS + OTHERS, BODY, "generator = 'unet'")
    write_notebook(tmp_path/'bare.ipynb', PARAMETERS, BODY, tags=())
    write_notebook(tmp_path/'mine.ipynb', PARAMETERS + "source = ''", BODY)
    write_notebook(tmp_path/'moved.ipynb', PARAMETERS, MOVED)
    for name, text in STUDIES.items(): (tmp_path/f'{name}.yaml').write_text(text)
    (tmp_path/'lab_nets.py').write_text(LAB_NETS)
    (tmp_path/'broken_nets.py').write_text('import no_such_package')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.delitem(sys.modules, 'lab_nets', raising=False)         # of an earlier test
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
    (['fake.yaml', '-p', 'arms=real,cutout'], 'cutout'),
    (['fake.yaml', '-p', 'arms=[add]'], 'baseline real is not among the arms'),
    (['fake.yaml', '--replicates', '0'], 'replicates must be at least 1'),
    (['fake.yaml', '-p', 'source=nowhere.npz'], 'nowhere.npz'),
    (['fake.yaml', '-p', 'source=small.npz', '-p', 'labels_per_class=50'], 'labels_per_class=50'),
    (['fake.yaml', '-p', 'source=small.npz', '-p', 'labels_per_class=3', '-p', 'arms=real,oracle-900%'],
     'an oracle arm needs 81 labelled training images'),
    (['fake.yaml', '-p', 'network=resnet99'], 'resnet99'),
    (['points.yaml'], 'resnet99'),
    (['fake.yaml', '-p', 'recipe=baselin'], 'baselin'),
    (['fake.yaml', '-p', 'loss=focul'], 'focul'),
    (['fake.yaml', '-p', 'source=small.npz', '-p', 'loss=asymmetric'], 'asymmetric'),
    (['fake.yaml', '-p', 'source=small.npz', '-p', 'size=18', '-p', 'network=vit_b16'], '18x18'),
    (['fake.yaml', '-p', 'device=gpu'], "device='gpu'"),
    (['fake.yaml', '-p', 'curation=centroids'], 'did you mean centroid?'),
    (['fake.yaml', '-p', 'sampler=dpm'], 'dpm'),
    (['fake.yaml', '-p', 'objective=floww'], 'floww'),
    (['fake.yaml', '-p', 'modules=attn'], 'attn'),
    (['fake.yaml', '-p', 'template=a cell, {label'], 'cannot be filled in'),
    (['fake.yaml', '-p', 'arms=real,add:unet:centroids'], 'centroids'),
    (['fake.yaml', '-p', 'arms=real,add:lora'], 'no images of a generator lora'),
    (['fake.yaml', '-p', 'labels_per_class=0'], 'labels_per_class=0'),
    (['fake.yaml', '-p', 'guidance=0'], 'guidance must be above 0'),
    (['fake.yaml', '-p', 'generator_steps=-1'], 'generator_steps must be 0 or more'),
    (['fake.yaml', '-p', 'size=-32'], 'size must be at least 1'),
    (['fake.yaml', '-p', 'base=nowhere'], 'nowhere'),
    (['fake.yaml', '-p', 'pool_folder=nowhere'], 'pool_folder'),
    (['fake.yaml', '-p', 'weights_folder=fake.yaml'], 'is no folder'),
    (['fake.yaml', '-p', 'base_sources=cells.npz'], 'KIND=SOURCE'),
    (['mine.yaml'], 'the study names no images: give -p source=PATH'),
    (['your-images'], 'the study names no images: give -p source=PATH'),
    (['protein-localization', '-p', 'source=X', '-p', 'network=resnet99'], 'X'),
    (['protein-localization', '-p', 'network=resnet99'], 'resnet99'),
    (['moved.yaml'], 'moved.ipynb imports budget from synaug.images; it is now in synaug.data.splits; '
                     'imports save_rows from synaug.study; it is now in synaug.outcome'),
])
def test_mistakes(here, capsys, monkeypatch, arguments, says):
    small_set(here)
    before = sorted(here.rglob('*'))
    code, said, wrong = synaug(capsys, monkeypatch, 'run', *arguments, '--out', 'results')
    assert (code, said) == (2, '') and wrong.startswith('error: ') and wrong.count('\n') == 1 and says in wrong
    assert sorted(here.rglob('*')) == before


def small_set(here, channels=3):
    "small.npz: 12 images of 3 classes for training, 6 each for validation and test"
    arrays, rng = {}, np.random.default_rng(0)
    for split, n in dict(train=12, val=6, test=6).items():
        arrays[f'{split}_images'] = rng.integers(0, 256, (n, 16, 16, channels), dtype=np.uint8)
        arrays[f'{split}_labels'] = np.arange(n) % 3
    np.savez(here/'small.npz', **arrays)


@pytest.fixture
def odd_weights(here):
    "A folder with a ResNet's configuration and weights of another width"
    from transformers import ResNetConfig, ResNetModel, ViTImageProcessor
    shape = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    ResNetModel(ResNetConfig(**shape)).save_pretrained(here/'odd_model')
    ViTImageProcessor().save_pretrained(here/'odd_model')
    ResNetConfig(**shape | dict(hidden_sizes=[8, 24])).save_pretrained(here/'odd_model')


YOURS = 'your-images', '-p', 'source=small.npz', '-p', 'labels_per_class=2'


@pytest.mark.parametrize('asked, says', [
    (['network=resnet99'], "there is no network 'resnet99'"),
    (['network=no_nets:build'], 'network no_nets:build: there is no module no_nets'),
    (['network=broken_nets:build'], 'broken_nets needs no_such_package, which is not installed'),
    (['network=lab_nets:biuld'], 'network lab_nets:biuld: biuld is not in lab_nets; did you mean build?'),
    (['network=lab_nets:three_channels'], 'network=lab_nets:three_channels cannot take images of 16x16 pixels and 4'),
    (['network=lab_nets:two_classes'], 'must give logits (2, 3); found (2, 2)'),
    (['network=lab_nets:a_number'], 'is a int; it must be a torch.nn.Module'),
    (['network=./nowhere'], 'network=./nowhere: there is no such folder'),
    (['network=./odd_model'], 'holds weights of another shape than its config.json says'),
    (['network=resnet18', 'pretrained=./odd_model'], "odd_model' is not a resnet18"),
    (['network=vit_b16', 'size=18'], 'images of 18x18 cannot be cut into patches of 16'),
    (['pretrained=hub'], 'there are no weights for network=compact'),
    (['tune=head'], "tune='head' freezes a body that has learnt nothing"),
    (['network=efficientnet_lite0', 'pretrained=hub', 'tune=tail'], "no tune='tail'; choose from all, last, head"),
    (['arms=real,pretrained'], 'leave the word pretrained out'),
    (['tune=head', 'arms=real,pool-pretrained'], 'learns nothing from a pool'),
    (['updates=few'], 'parameter updates must be at least 1; found few'),
    (['learning_rate=0'], 'parameter learning_rate must be above 0'),
    (['network_size=0'], 'parameter network_size must be at least 1'),
])
def test_classifiers_that_cannot_be(here, odd_weights, capsys, monkeypatch, asked, says):
    "Told before any training, with nothing written"
    small_set(here, channels=4)
    before = sorted(here.rglob('*'))
    given = [word for setting in ['arms=real', *asked] for word in ('-p', setting)]
    code, said, wrong = synaug(capsys, monkeypatch, 'run', *YOURS, *given, '--out', 'results')
    assert (code, said) == (2, '') and wrong.startswith('error: ') and wrong.count('\n') == 1, wrong
    assert says in wrong
    assert [p for p in sorted(here.rglob('*')) if '__pycache__' not in str(p)] == before


def test_timm_is_asked_for(here, capsys, monkeypatch):
    small_set(here)
    monkeypatch.setattr('synaug.classifiers.elsewhere.find_spec', lambda name: None)
    wrong = synaug(capsys, monkeypatch, 'run', *YOURS, '-p', 'arms=real', '-p', 'network=timm:resnet18')[2]
    assert 'network=timm:resnet18 needs timm, which is not installed here: pip install timm torchvision' in wrong


# Told beforehand

def test_a_dry_run_says_all_and_does_nothing(here, capsys, monkeypatch):
    small_set(here)
    before = sorted(here.rglob('*'))
    settings = '-p', 'arms=real,add-200%,duplicate', '-p', 'network=lab_nets:build'
    command = 'run', *YOURS, *settings, '--dry-run', '--no-timing', '--replicates', '4'
    code, said, wrong = synaug(capsys, monkeypatch, *command)
    assert (code, wrong.count('error')) == (0, 0)
    for part in ('data: 24 images of 16x16 pixels', '  add-200%   real images and 2 times as many synthetic images',
                 'classifier: lab_nets:build with the weights that it makes; all of it is trained; 800 updates',
                 '4 replicates cannot end in helps or hurts', 'to do: 4 runs', 'disk: about'): assert part in said, part
    assert 'time:' not in said
    assert [p for p in sorted(here.rglob('*')) if '__pycache__' not in str(p)] == before


@pytest.mark.parametrize('options, terminal, seconds, answer, goes', [
    ([], True, 3600, True, True),
    ([], True, 3600, False, False),
    ([], True, 60, None, True),             # None: must not be asked
    ([], True, None, None, True),
    (['--yes'], True, 3600, None, True),
    ([], False, 3600, None, True),
    (['--dry-run'], True, 3600, None, False),
])
def test_only_a_terminal_is_asked(here, capsys, monkeypatch, options, terminal, seconds, answer, goes):
    asked, agreed_to = [], []
    def confirm(text, default):
        asked.append(text)
        return answer
    def run_study(study, out, workers, command, agreed, **_):
        agreed_to.append(agreed(study, {}, ['a run'], out, 1) is not None)
    told = ['what will be done'], seconds, Forecast()
    monkeypatch.setattr(beforehand, 'told_beforehand', lambda *plan: told)
    monkeypatch.setattr(runner, 'run_study', run_study)
    monkeypatch.setattr('typer.confirm', confirm)
    for stream in sys.stdin, sys.stdout: monkeypatch.setattr(stream, 'isatty', lambda: terminal, raising=False)
    code, said, _ = synaug(capsys, monkeypatch, 'run', 'fake.yaml', *options)
    assert (code, said.splitlines()[-1], agreed_to) == (0, 'what will be done', [goes])
    assert len(asked) == (answer is not None)


def test_a_new_study_from_images(here, capsys, monkeypatch):
    "Study file, contact sheet and notebook; what it says next can be done"
    small_set(here)
    code, said, _ = synaug(capsys, monkeypatch, 'new', 'mine', '--source', 'small.npz')
    assert code == 0 and {p.name for p in (here/'mine').iterdir()} == {'study.yaml', 'images.png', 'explore.ipynb'}
    assert said.splitlines()[-1] == 'next: synaug run mine/study.yaml --out mine/results' and 'it takes about' in said
    assert file.read_study('mine/study.yaml').parameters['source'] == str(here/'small.npz')
    code, _, wrong = synaug(capsys, monkeypatch, 'new', 'mine', '--source', 'small.npz')
    assert code == 2 and 'mine is not empty' in wrong


@pytest.mark.parametrize('command, says', [
    (['status', 'nowhere'], 'holds no study'),
    (['open', 'nowhere'], 'has no report.html yet'),
    (['lab', 'nowhere'], 'is no folder'),
])
def test_folders_without_what_is_asked(here, capsys, monkeypatch, command, says):
    code, said, wrong = synaug(capsys, monkeypatch, *command)
    assert (code, said) == (2, '') and says in wrong and wrong.count('\n') == 1
    assert not (here/'nowhere').exists()


def test_folder_of_something_else(here, capsys, monkeypatch):
    write_notebook(here/'plain.ipynb', PARAMETERS, BODY)
    (here/'plain.yaml').write_text('notebook: plain.ipynb')
    (here/'results').mkdir()
    (here/'results'/'thesis.tex').write_text('')
    for command in (['run', 'plain.yaml', '--out', 'results'], ['report', 'results']):
        code, _, wrong = synaug(capsys, monkeypatch, *command)
        assert code == 2 and 'holds no study' in wrong
    assert [p.name for p in (here/'results').iterdir()] == ['thesis.tex']


def raises(error):
    def reading(*_): raise error
    return reading


@pytest.mark.parametrize('kind', mistakes().values(), ids=mistakes())
def test_every_mistake_is_one_line_and_2(here, capsys, monkeypatch, kind):
    monkeypatch.setattr(file, 'read_study', raises(kind('this\nis wrong')))
    assert synaug(capsys, monkeypatch, 'run', 'fake.yaml') == (2, '', 'error: this is wrong\n')


def test_a_broken_run_is_1(here, capsys, monkeypatch):
    monkeypatch.setattr(file, 'read_study', raises(RunFailed('1 of 2 runs failed')))
    assert synaug(capsys, monkeypatch, 'run', 'fake.yaml') == (1, '', 'error: 1 of 2 runs failed\n')


def test_what_is_no_mistake_is_not_hidden(here, monkeypatch):
    monkeypatch.setattr(file, 'read_study', raises(ValueError('a fault of ours')))
    monkeypatch.setattr(sys, 'argv', ['synaug', 'run', 'fake.yaml'])
    with pytest.raises(ValueError, match='a fault of ours'): main()


RAISES = """
import synaug.errors
raise synaug.errors.mistakes()[mistake]('as planned')
"""


def test_a_mistake_in_a_worker_is_2(here, capsys, monkeypatch):
    "Of two kinds, a run each (of all kinds: 09_runner); if one were not known as a mistake, the study would end with 1"
    kinds = [list(mistakes())[0], list(mistakes())[-1]]
    write_notebook(here/'wrong.ipynb', "replicate = 0\nout = ''\nmistake = ''", RAISES)
    (here/'wrong.yaml').write_text(f'notebook: wrong.ipynb\nreplicates: 1\ngrid: {{mistake: [{", ".join(kinds)}]}}')
    code, _, wrong = synaug(capsys, monkeypatch, 'run', 'wrong.yaml', '--workers', '2', '--out', 'results')
    assert code == 2 and wrong.count('\n') == 1 and 'as planned' in wrong
    assert f'{len(kinds)} of {len(kinds)} runs failed' in wrong


def saved(s, name): return {f'{name}_images': s.images, f'{name}_labels': s.labels.astype(np.uint8)}


def test_inspect_lists_near_duplicates_and_still_succeeds(here, capsys, monkeypatch):
    data = simulate(seed=0, size=16, n_train=30, n_val=14, n_test=14, n_pool=0, n_shift=0)
    clean = {}
    for name, s in data.splits().items(): clean |= saved(s, name)
    again = (data.train.images[:12]*.9).round().astype(np.uint8)        # twelve cells of train, saved again for test
    images = np.concatenate([data.test.images, again])
    labels = np.concatenate([data.test.labels, data.train.labels[:12]]).astype(np.uint8)
    np.savez(here/'clean.npz', **clean)
    np.savez(here/'again.npz', **clean | dict(test_images=images, test_labels=labels))
    monkeypatch.setattr(sys, 'argv', ['synaug', 'inspect', 'again.npz'])
    main_returns(0)
    said = capsys.readouterr().out
    assert 'no problems' in said
    assert '12 pairs of images in different splits look like the same picture; the 10 most alike' in said
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


def python(code, *arguments):
    return subprocess.run([sys.executable, '-c', code, *arguments], env=ENV, capture_output=True, text=True)


def test_help_is_fast():
    began = time.time()
    said = python('from synaug.cli import main; main()', 'run', '--help')
    assert said.returncode == 0 and '--replicates' in said.stdout and '--workers' in said.stdout
    assert time.time() - began < 5          # torch alone takes longer on a busy machine


HELP = """
import sys
from synaug.cli import main
sys.argv = ['synaug', '--help']
try: main()
except SystemExit: pass
"""


READS = "import sys\nfrom synaug.study.file import read_study\nread_study('quick')"


@pytest.mark.parametrize('code', ['import sys, synaug', 'import sys, synaug.cli', READS, HELP])
def test_torch_is_not_loaded(code):
    "Neither by the package, nor by --help, nor by reading a study"
    loaded = "\nprint([m for m in ('torch', 'transformers', 'diffusers') if m in sys.modules])"
    assert python(code + loaded).stdout.splitlines()[-1] == '[]'
