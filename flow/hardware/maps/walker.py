"""Where the windows of a tile are: for each array row its place in the map, going on from tile to tile."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.fields import ADDRESS, COORDINATE, WALK, field_span
from flow.hardware.maps.bundles import LaneWalk, Window

WORDS = 2**ADDRESS
PLACES = 2**COORDINATE


@block
def in_map(place, tap, size, hit):
    """Whether place + tap, modulo 2**16, is less than size. Combinational.

    The tap comes out of a memory, late. It is added once to the place and once to place - size; what these sums and the
    difference carry says it, without a comparison behind the sum.
    """
    distance = Signal(modbv(0, min=0, max=PLACES))
    below = Signal(bool(0))
    reached, beyond = (Signal(intbv(0)[COORDINATE + 1 :]) for _ in range(2))

    @always_comb
    def subtract():
        distance.next = place - size
        below.next = place < size

    @always_comb
    def add():
        reached.next = place + tap
        beyond.next = distance + tap

    @always_comb
    def compare():
        # place + tap - size = beyond - 2**16 * below; its part below 2**16 * reached's carry is negative
        if below:
            hit.next = reached[COORDINATE] == beyond[COORDINATE]
        else:
            hit.next = reached[COORDINATE] and (not beyond[COORDINATE])

    return subtract, add, compare


@block
@prefixed(steps="")
def lane(clk, take, advance, cursor, steps, tap, address, present):
    """The window of one array row.

    control  take: go to the cursor; advance: to the window of the next tile
    fields   of a `LaneWalk`; steady
    data     tap_word, tap_x, tap_y: what the tap adds; address[24] of its word; present: it is in the map.
             Combinational.
    """
    word = Signal(modbv(0, min=0, max=WORDS))
    x = Signal(modbv(0, min=0, max=PLACES))
    y = Signal(modbv(0, min=0, max=PLACES))
    window = Signal(modbv(0, min=0, max=PLACES))
    wraps = Signal(bool(0))
    step_word = Signal(modbv(0, min=0, max=WORDS))
    step_x, step_y, step_window = (Signal(modbv(0, min=0, max=PLACES)) for _ in range(3))
    inside_x, inside_y = Signal(bool(0)), Signal(bool(0))

    @always_comb
    def ending():
        wraps.next = window >= steps.wrap_from

    @always_comb
    def step():
        if wraps:
            step_window.next = steps.wrap_window
            step_word.next = steps.wrap_word
            step_x.next = steps.wrap_x
            step_y.next = steps.wrap_y
        else:
            step_window.next = steps.tile_windows
            step_word.next = steps.tile_word
            step_x.next = steps.tile_x
            step_y.next = steps.tile_y

    @always_seq(clk.posedge, reset=None)
    def walk():
        if take:
            word.next = cursor.word
            x.next = cursor.x
            y.next = cursor.y
            window.next = cursor.window
        elif advance:
            window.next = window + step_window
            word.next = word + step_word
            x.next = x + step_x
            y.next = y + step_y

    @always_comb
    def reach():
        address.next = word + tap.word

    @always_comb
    def check():
        present.next = inside_x and inside_y

    return (
        ending,
        step,
        walk,
        reach,
        in_map(x, tap.x, steps.width, inside_x),
        in_map(y, tap.y, steps.height, inside_y),
        check,
    )


@block
def walker(clk, reset, restart, advance, ready, walk, tap, addresses, present, rows):
    """The windows of one tile after the other.

    control  restart: take the fields `walk` and go to the first tile, for which `rows` cycles are needed; ready: there;
             advance: to the next tile
    data     tap_word[24], tap_x[16], tap_y[16]; addresses[24 * rows], present[rows]: whether the tap is in the map
             and the array row has a window. Combinational.
    """

    def field(name):
        return walk(*field_span(WALK, name))

    word, step_word, wrap_word, tile_word = (Signal(modbv(0, min=0, max=WORDS)) for _ in range(4))
    x, y, step_x, step_y, wrap_x, tile_x, tile_y = (Signal(modbv(0, min=0, max=PLACES)) for _ in range(7))
    window, windows, tile_windows, height, width = (Signal(intbv(0)[COORDINATE:]) for _ in range(5))
    # As `LaneWalk` has them, from the cycle after next on: a row's window is given later still.
    wrap_from, over_window = Signal(intbv(0)[COORDINATE:]), Signal(modbv(0, min=0, max=PLACES))
    over_word = Signal(modbv(0, min=0, max=WORDS))
    over_x, over_y = (Signal(modbv(0, min=0, max=PLACES)) for _ in range(2))
    left = Signal(intbv(0)[ADDRESS:])
    number = Signal(intbv(0)[7:])  # the next array row to be given its window
    walk_word, walk_step_word, walk_wrap_word, walk_tile_word, walk_positions = (
        field(name) for name in ("word", "step_word", "wrap_word", "tile_word", "positions")
    )
    walk_x, walk_y, walk_step_x, walk_step_y, walk_wrap_x, walk_tile_x, walk_tile_y = (
        field(name) for name in ("x", "y", "step_x", "step_y", "wrap_x", "tile_x", "tile_y")
    )
    walk_window, walk_windows, walk_tile_windows, walk_height, walk_width = (
        field(name) for name in ("window", "windows", "tile_windows", "height", "width")
    )
    places = [Signal(modbv(0, min=0, max=WORDS)) for _ in range(rows)]
    inside = [Signal(bool(0)) for _ in range(rows)]
    taking = Signal(intbv(0)[rows:])
    inside_all = join(*reversed(inside))
    places_all = join(*reversed(places))
    last_in_row = Signal(bool(0))

    @always_comb
    def rowend():
        last_in_row.next = window + 1 >= windows

    @always_comb
    def readiness():
        ready.next = number == rows

    @always_seq(clk.posedge, reset=reset)
    def control():
        if restart:
            number.next = 0
        elif number != rows:
            number.next = number + 1

    @always_seq(clk.posedge, reset=None)
    def cursor():
        if restart:
            word.next = walk_word
            x.next = walk_x
            y.next = walk_y
            window.next = walk_window
            windows.next = walk_windows
            step_word.next = walk_step_word
            step_x.next = walk_step_x
            step_y.next = walk_step_y
            wrap_word.next = walk_wrap_word
            wrap_x.next = walk_wrap_x
            tile_windows.next = walk_tile_windows
            tile_word.next = walk_tile_word
            tile_x.next = walk_tile_x
            tile_y.next = walk_tile_y
            height.next = walk_height
            width.next = walk_width
            left.next = walk_positions
        else:
            if last_in_row:
                window.next = 0
                word.next = word + step_word + wrap_word
                x.next = x + step_x - wrap_x
                y.next = y + step_y
            else:
                window.next = window + 1
                word.next = word + step_word
                x.next = x + step_x
            if advance:
                if left > rows:
                    left.next = left - rows
                else:
                    left.next = 0

    @always_seq(clk.posedge, reset=None)
    def over():
        if tile_windows < windows:
            wrap_from.next = windows - tile_windows
        else:
            wrap_from.next = 0
        over_window.next = tile_windows - windows
        over_word.next = tile_word + wrap_word
        over_x.next = tile_x - wrap_x
        over_y.next = tile_y + step_y

    @always_comb
    def choose():
        for j in range(rows):
            taking.next[j] = number == j

    at = Window(word, x, y, window)
    steps = LaneWalk(
        wrap_from, over_window, over_word, over_x, over_y, tile_windows, tile_word, tile_x, tile_y, height, width
    )  # fmt: skip
    parts = [lane(clk, taking(j), advance, at, steps, tap, places[j], inside[j]) for j in range(rows)]

    @always_comb
    def outputs():
        addresses.next = places_all
        for j in range(rows):
            present.next[j] = inside_all[j] and (left > j)

    return rowend, readiness, control, cursor, over, choose, parts, outputs


@block
def walkers(clk, reset, job, take, advance, ready, walk, tap, addresses, present, rows):
    """A walker that is under way, and one that is made ready for the next job meanwhile.

    control  job: the fields `walk` are a job's: the waiting walker takes them, the first time since take; take: the job
             begins; ready: at its first tile, at once if job came `rows` cycles before; advance: to the next tile
    data     as a walker's
    """
    second = Signal(bool(0))  # is under way
    begun = Signal(bool(0))  # the other one has the job's fields
    restarts, advances, at_tile = ([Signal(bool(0)) for _ in range(2)] for _ in range(3))
    places = [Signal(intbv(0)[ADDRESS * rows :]) for _ in range(2)]
    inside = [Signal(intbv(0)[rows:]) for _ in range(2)]
    restart0, restart1 = restarts
    advance0, advance1 = advances
    ready0, ready1 = at_tile
    places0, places1 = places
    inside0, inside1 = inside
    pair = [
        walker(clk, reset, restarts[i], advances[i], at_tile[i], walk, tap, places[i], inside[i], rows)
        for i in range(2)
    ]

    @always_seq(clk.posedge, reset=reset)
    def turns():
        if take:
            second.next = not second
            begun.next = False
        elif job:
            begun.next = True

    @always_comb
    def controls():
        restart0.next = job and (not begun) and second
        restart1.next = job and (not begun) and (not second)
        advance0.next = advance and (not second)
        advance1.next = advance and second

    @always_comb
    def outputs():
        if second:
            ready.next = ready1
            addresses.next = places1
            present.next = inside1
        else:
            ready.next = ready0
            addresses.next = places0
            present.next = inside0

    return pair, turns, controls, outputs
