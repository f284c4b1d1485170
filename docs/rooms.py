"""The rooms of the package and the imports between them, read from the code: `python docs/rooms.py [PACKAGE]`

A wing is a folder of `synaug/` or a single module; a room is a module. A room may import rooms of its own wing, and of
the wings that its wing stands on. Nothing imports in a circle.
"""
import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent/'synaug'
BELOW_STUDY = ('errors', 'stages', 'store', 'streams', 'training', 'augment', 'own', 'data', 'arms', 'generators',
               'partners', 'classifiers', 'evaluation', 'audits', 'curation')
STANDS_ON = {           # wing -> the wings it may import, from the ground up
    'errors': (),
    'store': ('errors',),
    'stages': (),
    'streams': (),
    'training': ('errors', 'stages'),
    'augment': ('errors', 'streams'),
    'own': ('errors',),
    'data': ('errors', 'store'),
    'arms': ('errors',),
    'generators': ('errors', 'stages', 'store', 'streams', 'training', 'augment', 'own', 'data', 'arms'),
    'partners': ('errors', 'data', 'arms'),
    'classifiers': ('errors', 'store', 'streams', 'training', 'augment', 'own', 'data', 'arms'),
    'evaluation': ('errors', 'data'),
    'audits': ('errors', 'training', 'data', 'classifiers', 'evaluation'),
    'curation': ('errors', 'data', 'arms', 'audits'),
    'outcome': ('errors', 'store'),
    'replicate': (*BELOW_STUDY, 'outcome'),
    'verdicts': ('errors', 'arms'),
    'plots': ('errors', 'data', 'arms', 'audits', 'verdicts'),
    'study': (*BELOW_STUDY, 'outcome', 'replicate', 'verdicts', 'plots'),
    'cli': (*BELOW_STUDY, 'outcome', 'replicate', 'verdicts', 'plots', 'study')}


def rooms(package=PACKAGE):
    "Module name without the package's -> file, in the order of the names"
    files = sorted(p for p in package.rglob('*.py') if not p.name.startswith('_'))
    return {'.'.join(p.relative_to(package).with_suffix('').parts): p for p in files}


def wing(room): return room.partition('.')[0]


def _module(node, room, package):
    "The absolute name that an `import from` in a room speaks of"
    if not node.level: return node.module or ''
    here = [package.name, *room.split('.')]
    return '.'.join([*here[:-node.level], *filter(None, [node.module])])


def arrows(package=PACKAGE):
    "Set of (room, imported room, imported name), imports inside functions included"
    known, found = rooms(package), set()
    for room, file in known.items():
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                targets = [(alias.name, '') for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = _module(node, room, package)
                targets = [(f'{module}.{alias.name}', '') for alias in node.names]
                targets += [(module, alias.name) for alias in node.names]
            else: continue
            for target, name in targets:
                other = target.removeprefix(f'{package.name}.')
                if other in known and other != target: found.add((room, other, name))
    return found


def faults(package=PACKAGE, stands_on=STANDS_ON):
    "What is wrong with the imports, one line each: unknown wings, arrows upwards, private names, circles"
    found = [f'{wing(room)}: no such wing' for room in rooms(package) if wing(room) not in stands_on]
    for room, other, name in sorted(arrows(package)):
        if wing(room) != wing(other) and wing(other) not in stands_on.get(wing(room), ()):
            found.append(f'{room} imports {other}: {wing(room)} does not stand on {wing(other)}')
        if name.startswith('_') and not name.startswith('__'):
            found.append(f'{room} imports the private {name} of {other}')
    graph = {room: set() for room in rooms(package)}
    for room, other, _ in arrows(package): graph[room].add(other)
    try: TopologicalSorter(graph).prepare()
    except CycleError as e: found.append('a circle: ' + ' <- '.join(e.args[1]))
    return sorted(set(found))


def picture(package=PACKAGE, stands_on=STANDS_ON):
    "Wings from the ground up, rooms in boxes, an arrow from each room to what it imports; arrows upwards would be red"
    from matplotlib.figure import Figure
    order, known = list(stands_on), list(rooms(package))
    widest = max(sum(wing(r) == w for r in known) for w in order)
    fig = Figure(figsize=(11, 8), dpi=75, layout='constrained')
    ax = fig.subplots()
    place = {}
    for y, w in enumerate(order):
        members = [r for r in known if wing(r) == w]
        for i, room in enumerate(members): place[room] = ((i + .5)*widest/len(members), y)
        ax.text(-.25, y, w, ha='right', va='center', fontsize=9, fontweight='bold', color='#0b3c5d')
    for room, other in sorted({(a, b) for a, b, _ in arrows(package)}):
        (x, y), (to_x, to_y) = place[room], place[other]
        upwards = to_y > y
        style = dict(arrowstyle='-|>', color='#d55e00' if upwards else '#0b3c5d', alpha=1 if upwards else .3, lw=.6,
                     antialiased=False,
                     shrinkA=9, shrinkB=9, connectionstyle='arc3,rad=.08')
        ax.annotate('', (to_x, to_y), (x, y), arrowprops=style)
    for room, (x, y) in place.items():
        ax.text(x, y, room.rpartition('.')[2], ha='center', va='center', fontsize=8,
                bbox=dict(boxstyle='round,pad=.25', fc='#eef3f7', ec='#0b3c5d', lw=.7))
    ax.set(xlim=(-1.6, widest + .2), ylim=(-.6, len(order) - .4))
    ax.axis('off')
    return fig


if __name__ == '__main__':
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    found = faults(package)
    print('\n'.join(found) or f'{len(rooms(package))} rooms, no circle, no arrow upwards')
    sys.exit(bool(found))
