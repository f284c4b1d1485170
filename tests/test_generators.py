"Studies with images made elsewhere and with generators of the user's own, from the terminal to the report"
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synaug
import torch
from diffusers import DDPMScheduler, UNet2DModel
from synaug.data.images import ImageSet
from synaug.data.simulate import simulate
from synaug.errors import LeakError
from synaug.generators.own import OwnGenerator
from synaug.study.file import read_study
from synaug.study.report import Report
from synaug.study.runner import run_study

TINY = dict(labels_per_class=3, generator_steps=2, sampling_steps=1, updates=5, batch_size=8, examiner_updates=5,
            pool_updates=2)
MODELS = '''
import numpy as np

class Parrot:
    "Training images again, a little noisy"
    def fit(self, train, pool, seed):
        self.images, self.labels = train.images/train.max_value, train.labels

    def sample(self, labels, seed):
        again = self.images[np.abs(labels[:, None] - self.labels).sum(2).argmin(1)]
        return (again + np.random.default_rng(seed).normal(0, .04, again.shape)).clip(0, 1)

class Short(Parrot):
    def sample(self, labels, seed): return super().sample(labels[1:], seed)

class Wild(Parrot):
    def sample(self, labels, seed): return 255*super().sample(labels, seed)
'''


def write_npz(path, data):
    "A data set as an .npz file"
    arrays = {}
    for name, s in data.splits().items():
        arrays[f'{name}_images'] = s.images
        if s.labels is not None: arrays[f'{name}_labels'] = s.labels.astype(np.uint8)
        if s.groups is not None: arrays[f'{name}_groups'] = s.groups.astype(str)
    names = dict(class_names=np.array(data.train.classes), channel_names=np.array(data.train.channels))
    np.savez(path, **arrays, **names, task=data.train.task)


def by_diffusers(train, labels, steps=5, seed=0):
    "Images for label rows, made by a tiny class-conditional diffusion model of plain diffusers: floats from 0 to 1"
    torch.manual_seed(seed)
    kinds, own = np.unique(train.labels, axis=0, return_inverse=True)
    net = UNet2DModel(
        sample_size=train.size, in_channels=train.n_channels, out_channels=train.n_channels, layers_per_block=1,
        block_out_channels=(8, 16), norm_num_groups=4, num_class_embeds=len(kinds),
        down_block_types=('DownBlock2D',)*2, up_block_types=('UpBlock2D',)*2)
    noise_levels, x, own = DDPMScheduler(100), torch.from_numpy(train.floats()), torch.from_numpy(own.ravel())
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for _ in range(steps):
        i, t = torch.randint(len(x), (16,)), torch.randint(100, (16,))
        noise = torch.randn_like(x[i])
        loss = (net(noise_levels.add_noise(x[i], noise, t), t, own[i]).sample - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    asked = torch.tensor([np.abs(kinds - row).sum(1).argmin() for row in labels])
    noise_levels.set_timesteps(5)
    made = torch.randn(len(labels), *x.shape[1:])
    with torch.no_grad():
        for t in noise_levels.timesteps: made = noise_levels.step(net(made, t, asked).sample, t, made).prev_sample
    return (made/2 + .5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope='module')
def data(): return simulate(seed=3, size=16, n_train=160, n_val=60, n_test=60, n_pool=0, n_shift=30)


@pytest.fixture(scope='module')
def folder(data, tmp_path_factory):
    "Real cells, cells made by diffusers, the same with one test image among them, and generators of the user's own"
    folder = tmp_path_factory.mktemp('generators')
    write_npz(folder/'cells.npz', data)
    images = (255*by_diffusers(data.train, data.train.labels)).round().astype(np.uint8)
    names = dict(class_names=np.array(data.train.classes), task=data.train.task)
    np.savez(folder/'made.npz', train_images=images, train_labels=data.train.labels, **names)
    images[17] = data.test.images[5]
    np.savez(folder/'planted.npz', train_images=images, train_labels=data.train.labels, **names)
    (folder/'models.py').write_text(MODELS)
    return folder


def study(folder, *settings, replicates=1):
    "The study of one's own images on these cells, with further settings"
    return read_study('your-images', [*(f'{k}={v}' for k, v in TINY.items()), f'source={folder}/cells.npz', *settings],
                      replicates=replicates)


# Images made elsewhere

@pytest.fixture(scope='module')
def of_diffusers(folder):
    "A finished study with the images that diffusers made"
    arms = 'arms=real,oracle,add:images-50%,add:images:random-200%'
    run_study(study(folder, f'synthetic={folder}/made.npz', arms, replicates=2), folder/'elsewhere')
    return folder/'elsewhere'


def test_images_made_elsewhere_are_arms(of_diffusers):
    rows = pd.read_parquet(of_diffusers/'ledger.parquet')
    of_arms = rows[rows.metric == 'macro_ap'].groupby('arm')[['n_real', 'n_extra', 'n_distinct']].first()
    n = of_arms.n_real['real']
    added = {'real': 0, 'oracle': n, 'add:images-50%': round(n/2), 'add:images:random-200%': 2*n}
    assert of_arms.n_extra.to_dict() == added
    assert of_arms.n_distinct['add:images-50%'] == round(n/2)
    audits = rows[(rows.arm == 'audit') & (rows.split == 'samples')]
    suspected = audits[audits.metric.str.startswith('suspected:')]
    assert set(suspected.metric) == {'suspected:val', 'suspected:test', 'suspected:microscope'}
    assert suspected.value.between(0, 1).all()
    assert set(rows.synthetic) == {'made.npz'} and set(rows.synthetic_seen) == {'unknown'}


def test_their_report_warns_before_anything_else(of_diffusers):
    said = Report(of_diffusers).said()
    assert said[0].startswith('Caution: it is unknown what the maker of the synthetic images had seen')
    assert 'Caution: it is unknown' in (of_diffusers/'report.html').read_text()


def test_a_planted_test_image_is_refused_by_name(folder):
    with pytest.raises(LeakError, match=r'planted.npz: 1 images are images of test: train\[17\]'):
        run_study(study(folder, f'synthetic={folder}/planted.npz', 'arms=real,add'), folder/'never')
    assert not (folder/'never').exists()


def test_too_few_of_them_are_said_before_anything_runs(folder):
    with pytest.raises(ValueError, match='too few images .*lower the amount'):
        run_study(study(folder, f'synthetic={folder}/made.npz', 'arms=real,add-900%'), folder/'never')
    assert not (folder/'never').exists()


# Generators of the user's own

@pytest.mark.slow
def test_several_generators_in_one_study(folder, monkeypatch):
    monkeypatch.chdir(folder)                                   # where models.py lies
    arms = 'arms=real,add:parrot,add:parrot:random-50%,add:unet,add:images-50%'
    settings = 'generators=models:Parrot,unet', f'synthetic={folder}/made.npz', 'synthetic_seen=train', arms
    run_study(study(folder, *settings), folder/'several')
    rows = pd.read_parquet(folder/'several'/'ledger.parquet')
    assert {'audit:parrot', 'audit:unet', 'audit:images'} <= set(rows.arm)
    copied = rows[(rows.metric == 'copied_looks') & (rows.split == 'samples')].set_index('arm').value
    assert copied['audit:parrot'] > .9                          # a parrot is found out
    assert not rows.metric.str.startswith('suspected:').any()
    made, = (folder/'several'/'runs').iterdir()
    pictures = {p.stem for p in made.glob('*.png')}
    assert {f'samples-{word}' for word in ('parrot', 'unet', 'images')} <= pictures
    assert Report(folder/'several').said()[-1].startswith('The maker of the synthetic images had seen the whole')


@pytest.mark.parametrize('name, says', [('Short', 'images for'), ('Wild', 'floats from 0 to 255')])
def test_what_is_no_such_image_stops_the_run(folder, name, says, tmp_path):
    settings = f'generators={folder}/models.py:{name}', 'arms=real,add'
    with pytest.raises(ValueError, match=f'models.py:{name}: sample returned .*{says}'):
        run_study(study(folder, *settings), tmp_path/'out')


@pytest.mark.parametrize('settings, says', [
    (['generators=unett'], 'did you mean unet?'),
    (['generators=no.such:GAN'], 'there is no module no.such'),
    (['generators=models.py:Parot'], 'did you mean Parrot?'),
    (['generators=unet', 'arms=real,add:latent'], 'needs the generator latent'),
    (['synthetic=made.npz', 'synthetic_seen=all'], 'would mean nothing'),
    (['synthetic=planted.npz', 'arms=real,add'], 'images of test: train[17]')])
def test_the_terminal_says_it_at_once(folder, settings, says):
    "Exit code 2, and one line"
    command = [sys.executable, '-c', 'from synaug.cli import main; main()', 'run', 'your-images', '--out', 'never']
    for setting in [*(f'{k}={v}' for k, v in TINY.items()), 'source=cells.npz', *settings]: command += ['-p', setting]
    env = os.environ | dict(PYTHONPATH=str(Path(synaug.__file__).parent.parent), COLUMNS='400')
    ended = subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, timeout=300)
    assert ended.returncode == 2 and says in ended.stderr and 'Traceback' not in ended.stderr, ended.stderr
    assert not (folder/'never').exists()


def code_of_the_guide(name):
    "The cell of the guide that defines the class of this name, without its first line, which is a directive"
    guide = Path(__file__).parent.parent/'nbs'/'guides'/'your_generator.ipynb'
    cells = [''.join(cell['source']) for cell in json.loads(guide.read_text(encoding='utf-8'))['cells']]
    source, = [text for text in cells if f'class {name}:' in text]
    return source.partition('\n')[2].replace('range(400)', 'range(2)').replace('range(200)', 'range(2)')


@pytest.mark.parametrize('name, library', [('Denoiser', 'diffusers'), ('Guided', 'denoising_diffusion_pytorch')])
def test_generators_of_the_guide(tmp_path, name, library):
    "They fit images of any channels, where their library is there"
    pytest.importorskip(library)
    (tmp_path/f'{name.lower()}.py').write_text(code_of_the_guide(name))
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 2), np.uint8)
    labels = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    few = ImageSet(images, labels, ('a', 'b', 'c'), ('red', 'green'))
    generator = OwnGenerator.fit(few, address=f'{tmp_path}/{name.lower()}.py:{name}')
    made = generator.sample(labels[:5], seed=1)
    assert made.images.shape == (5, 16, 16, 2) and (made.labels == labels[:5]).all()
    assert (generator.sample(labels[:5], seed=1).images == made.images).all()
    assert (generator.sample(labels[:5], seed=2).images != made.images).any()
    assert len(code_of_the_guide(name).strip().splitlines()) < 32
