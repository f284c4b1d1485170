"Two processes that train one model together take the steps of one process with the same batch"
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from synaug.generators.latent import LatentGenerator
from synaug.generators.lora import LoraGenerator
from synaug.generators.pixel import PixelGenerator
from synaug.generators.text_to_image import SmallDiffusion, save as save_base
from test_lora import TINY, coloured

HERE = Path(__file__)
FULL = dict(SYNAUG_BF16='off', OMP_NUM_THREADS='1')         # two halves of a batch round otherwise than the whole
QUIET = dict(batch_size=8, progress=False)


def pixels(base):
    generator = PixelGenerator.fit(coloured(), steps=8, **QUIET)
    return dict(generator=generator.losses), generator.net.state_dict()


def latents(base):
    how = dict(autoencoder_steps=6, steps=6)
    generator = LatentGenerator.pretrain(coloured().unlabelled(), **how, **QUIET)
    generator = generator.finetune(coloured(), steps=6, **QUIET)
    return generator.losses, generator.unet.state_dict()


def text_to_image(base):
    model = SmallDiffusion.fit([('a cell', coloured(seed=5))], **(TINY | dict(steps=6, autoencoder_steps=6) | QUIET))
    return dict(autoencoder=model.autoencoder_losses, unet=model.losses), model.pipe.unet.state_dict()


def lora(base):
    generator = LoraGenerator.fit(coloured(), base, steps=6, rank=3, lr=1e-3, **QUIET)
    return dict(lora=generator.losses), {k: v for k, v in generator.pipe.unet.state_dict().items() if 'lora' in k}


MODELS = dict(pixels=pixels, latents=latents, text_to_image=text_to_image, lora=lora)


def learnt(model, base, folder):
    "Train a model, keep its losses and weights in `folder`, by the number of this process"
    losses, weights = MODELS[model](base)
    weights = torch.cat([w.float().flatten() for w in weights.values()]).numpy()
    np.savez(Path(folder)/os.environ.get('RANK', 'alone'), weights=weights, **losses)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')/'base'
    save_base(SmallDiffusion.fit([('a cell', coloured(seed=5))], **TINY), folder)
    return folder


def ran(command, model, base, folder):
    call = [sys.executable, *command, HERE, model, base, folder]
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, timeout=900, env=os.environ | FULL)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize('model', MODELS)
def test_two_processes_take_the_steps_of_one(model, base, tmp_path, capsys):
    ran([], model, base, tmp_path)
    # by torchrun: `accelerate launch --cpu` starts one process, whatever --num_processes says
    ran(['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2], model, base, tmp_path)
    alone, first, second = (dict(np.load(tmp_path/f'{name}.npz')) for name in ('alone', 0, 1))
    for name, losses in alone.items():
        if name == 'weights': continue
        with capsys.disabled(): print(f'\n{model}, {name}: {losses.round(4)} alone, {first[name].round(4)} together')
        np.testing.assert_allclose(first[name], losses, rtol=2e-3, err_msg=name)
        assert len(losses) >= 6 and losses.std() > 0
    np.testing.assert_array_equal(first['weights'], second['weights'])
    far = np.abs(first['weights'] - alone['weights']).max()
    assert far < .05*np.abs(alone['weights']).max(), far


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(base, tmp_path):
    says = 'a batch of 7 cannot be shared evenly by 2 processes'
    script = f'import test_together as t; t.QUIET["batch_size"] = 7; t.learnt("pixels", None, {str(tmp_path)!r})'
    (tmp_path/'odd.py').write_text(f'import sys; sys.path.insert(0, {str(HERE.parent)!r})\n{script}')
    call = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', tmp_path/'odd.py']
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, timeout=900, env=os.environ | FULL)
    assert done.returncode and says in done.stderr


if __name__ == '__main__': learnt(*sys.argv[1:])
