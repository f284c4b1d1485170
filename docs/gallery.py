"Pages of the site that no notebook is: the gallery of results, the help of the command line; and the style of reports"
import os
import re
from base64 import b64encode
from html import escape
from io import BytesIO
from pathlib import Path

import pandas as pd
import figure

from synaug.verdicts.next_step import confirmed

QUESTIONS = {           # committed study -> what it asked
    'quick': 'Would synthetic cells help?',
    'hpa_cells': 'Would they help on real cells of the Human Protein Atlas?',
    'protein_localization': 'Do Mix Loss and Mix Representation help protein localization? (Lin & Cao 2025)',
    'histology_pretraining': 'Does an unlabelled pool stretch few labels of histology? (Ni, Ye et al. 2023)',
    'organ_on_chip': 'Do LoRA images in growing amounts have no effect? (Ivanovs et al. 2023)',
    'your_images': 'Would they help with 300 blood cells, all of them labelled?',
    'pretrained': 'Would they help a classifier of blood cells that starts from weights of ImageNet?',
    'made_elsewhere': 'Would images that plain diffusers made help?',
    'search_hpa_cells': 'Does any recipe help HPA-derived cells? A race of 18',
    'search_hpa_cells_5': 'Does any recipe help them with five labels per class? A race of 18',
    'search_simulate': 'Does any recipe help simulated cells? A race of 18',
    'search_crc_nuclei': 'Does any recipe help colorectal nuclei? A race of 18',
    'search_sperm_heads': 'Does any recipe help sperm heads? A race of 17',
    'search_blood_cells': 'Does any recipe help blood cells? A race of 19',
    'why_not': 'Why do synthetic cells not help: the images, or their labels?',
    'generator_budget': 'Would a generator that trains longer help? Five budgets'}
BOX = re.compile('sy-answer sy-(?P<kind>[a-z]+)">(<p class="sy-small"><b>(?P<point>[^<]*)</b></p>)?.*?'
                 '<strong>(?P<word>[^<]+):</strong>')


def style():
    "The style sheet of reports"
    from synaug.study.look import STYLE
    return STYLE


def thumbnail(study, side=320):
    "The sheet of real and synthetic images of a committed study, small, as an address of data; '' where it has none"
    try: image = figure.sheet(study)
    except StopIteration: return ''
    image = image.crop((0, 0, image.width, min(image.height, round(.75*image.width))))
    image.thumbnail((2*side, 2*side))
    png = BytesIO()
    image.quantize(64).save(png, 'png', optimize=True)
    return f'data:image/png;base64,{b64encode(png.getvalue()).decode()}'


def answers(study, ledger):
    "(point of the grid, kind, word) of each answer on the first screen; of older pages without one, by the rows"
    boxes = [match.groupdict() for match in BOX.finditer(figure.html(study))]
    if boxes: return [(box['point'] or '', box['kind'], box['word']) for box in boxes]
    found = figure.found(ledger)
    return [('', found.kind, found.word)]


def minutes(study, ledger):
    "What a committed study took, in words: all its runs, or its classifiers where an older page says no more"
    told = re.search(r'([\d,]+ minutes) of all runs', figure.html(study))
    if told: return f'{told[1]} of all runs together'
    trained = [column for column in ('replicate', 'arm', 'stage', 'labels', 'tune') if column in ledger]
    seconds = ledger.drop_duplicates(trained).seconds.sum()
    return f'{seconds/60:,.0f} minutes of classifier training'


def card(study):
    "A committed study as a card: thumbnail, question, answer in a word, replicates and minutes of training"
    ledger = pd.read_parquet(figure.ROOT/'nbs'/'results'/f'{study}.parquet')
    words = ', '.join(f'{point and point + ": "}<span class="sy-word sy-{kind}">{word}</span>'
                      for point, kind, word in answers(study, ledger))
    replicates = confirmed(ledger).replicate.nunique()
    question = QUESTIONS.get(study, study.replace('_', ' '))
    address = thumbnail(study)
    image = f'<img src="{address}" alt="Real and synthetic images of this study">' if address else ''
    spent = f'{replicates} replicates, {minutes(study, ledger)}'
    return (f'<a class="sy-card" href="{study}.html">{image}<span><b>{escape(question)}</b><br>{words}'
            f'<br><span class="sy-quiet">{spent}</span></span></a>')


def gallery(studies):
    "The gallery of results as cells of markdown"
    cards = ''.join(map(card, studies))
    intro = 'Reports as they ran, each with its command, commit, machine and rows. The word is that of the report.'
    return [f'# Gallery\n\n{{.lead}}\n{intro}', f'`````{{raw}} html\n<div class="sy-cards">{cards}</div>\n`````']


def helped(*words):
    "What `synaug ... --help` prints, 88 characters wide"
    from typer.testing import CliRunner
    from synaug.cli import app
    os.environ['COLUMNS'] = '88'
    return CliRunner().invoke(app, [*words, '--help'], prog_name='synaug').output.rstrip()


def commands():
    "The help of all commands as cells of markdown"
    from synaug.cli import app
    names = [command.name or re.sub('_', '-', command.callback.__name__) for command in app.registered_commands]
    cells = [f'# Command line\n\n{{.lead}}\nWhat `synaug` can do, as its help says it.', f'```text\n{helped()}\n```']
    return cells + [f'## synaug {name}\n\n```text\n{helped(name)}\n```' for name in names]


def pages(listing):
    "Page -> its cells of markdown, for a site with these pages; nothing for a site without them"
    known = [p.stem for p in listing if p.parent.as_posix() == 'results']
    ordered = [study for study in QUESTIONS if study in known] + [study for study in known if study not in QUESTIONS]
    found = {}
    if ordered: found[Path('results/gallery.ipynb')] = gallery(ordered)
    if any(p.parent.as_posix() == 'guides' for p in listing): found[Path('guides/commands.ipynb')] = commands()
    return found
