"""What an event says, as one line a change: table, key, row, what happened, write time; separated by tabs.

A row is its clustering columns, `static`, or `-` for what is no single row.
"""
import json


def of_event(event):
    table, key = f"{event['keyspace']}.{event['table']}", text(event['key'])

    def line(row, what, ts):
        return '\t'.join([table, key, row, what, str(ts)])

    if deletion := event.get('partition_delete'):
        yield line('-', 'delete partition', deletion['ts'])
    for what, ts in of_cells(event.get('static', {})):
        yield line('static', what, ts)
    for row in event.get('rows', []):
        clustering = text(row.get('clustering', {}))
        if deletion := row.get('delete'):
            yield line(clustering, 'delete row', deletion['ts'])
        if liveness := row.get('liveness'):
            yield line(clustering, 'insert', liveness['ts'])
        for what, ts in of_cells(row.get('cells', {})):
            yield line(clustering, what, ts)
    for deletion in event.get('range_deletes', []):
        # A side that is missing is the partition's edge.
        yield line('-', f"delete from {bound(deletion, 'start')} to {bound(deletion, 'end')}", deletion['ts'])


def of_cells(cells):
    for column, cell in cells.items():
        # A collection that was assigned or removed as a whole: all its older elements are gone.
        if overwrite := cell.get('overwrite'):
            yield f'clear {column}', overwrite['ts']
        for element in cell.get('elements', []):
            yield change(f"{column}[{text(element['path'])}]", element), element['ts']
        if 'ts' in cell:
            yield change(column, cell), cell['ts']


def change(name, cell):
    if 'deleted' in cell:
        return f'delete {name}'
    # An element of a set has no value: its path is the element.
    return f"set {name} = {text(cell['value'])}" if 'value' in cell else f'add {name}'


def bound(deletion, side):
    if side not in deletion:
        return 'edge'
    return text(deletion[side]['clustering']) + (' included' if deletion[side]['inclusive'] else ' excluded')


def text(value):
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False)
