// The normalizer's course. The channels of a position come as often as it takes: a Softmax compares each of them once,
// then both add each of them once, and fillers of the last octet count for nothing. After a pause in which the sums
// become complete, a variance takes one step of every kind in their order, each when the one before is through: the
// radicand, moved by `doublings` pairs of bits, the offset, five lifts, 16 steps of a root, its divisor, 15 steps of
// the quotient; a Softmax its sum as divisor and these; then what was measured is kept, once, under the tile's number.
// A result is given for each channel of an octet in turn, of the tiles in their order, again and again.
module harness (
  input clk, input reset, input enable, input valid, input first, input normalizes, input applies, input softmax,
  input [20:0] low, input [20:0] high
);
  wire [2:0] place_slot;
  wire [5:0] place_written, place_shown;
  wire [4:0] steps_pairs;
  wire [7:0] gives;
  wire steps_softmax, steps_applies1, steps_restart, steps_compare, steps_multiply, steps_take, steps_subtract;
  wire steps_shift, steps_add, steps_lift, steps_root, steps_divisor, steps_divide, steps_keep;
  wire steps_sum2, steps_sum4, steps_applies2;
  norm_control dut (.*);

  wire [12:0] count = low[12:0];
  wire [4:0] doublings = high[20:16];
  wire goes = enable && valid && normalizes, measures = goes && !applies;
  reg running = 0, under_way = 0, kind; // a position is being measured, a Softmax's
  reg [17:0] fields;
  reg [13:0] at;
  reg [1:0] pass;
  wire [13:0] at_now = first ? 0 : at;
  wire [1:0] pass_now = first ? !softmax : pass; // 0: largest, 1: sums, 2: what follows
  wire ends = at_now % 8 == 7 && at_now + 1 >= count;
  // What has been done since the sums.
  reg [2:0] pause, wait_product;
  reg multiplied, taken, subtracted, added, divided, kept;
  reg [4:0] shifted, lifted, roots, quotients;
  reg applied = 1, sums = 0; // results were given since a tile was measured; a channel is added
  reg [6:0] tiles = 0, tile = 0; // that were measured, whose results are given
  always @(posedge clk) begin
    running <= 1;
    if (running && goes) begin
      applied <= applies || (applied && !(first && pass_now != 2));
      if (applies && at_now % 8 == 7) tile <= tile + 1 == tiles ? 0 : tile + 1;
      if (measures && steps_keep) tiles <= tiles + 1;
      if (measures && first && applied) {tiles, tile} <= 0;
    end
    if (goes) at <= measures && pass_now != 2 && ends ? 0 : at_now + 1;
    if (running && enable) sums <= measures && pass_now == 1 && at_now < count;
    if (reset) under_way <= 0;
    else if (measures) begin
      {under_way, kind, fields} <= {1'b1, softmax, count, doublings};
      pass <= pass_now + (pass_now != 2 && ends);
      if (pass_now != 2) begin
        {pause, multiplied, taken, subtracted, added, divided, kept} <= 0;
        {shifted, lifted, roots, quotients} <= 0;
      end else begin
        if (pause != 7) pause <= pause + 1;
        wait_product <= steps_multiply || steps_take ? 1 : wait_product + (wait_product != 7);
        {multiplied, taken} <= {multiplied || steps_multiply, taken || steps_take};
        subtracted <= subtracted || steps_subtract;
        {added, divided, kept} <= {added, divided, kept} | {steps_add, steps_divisor, steps_keep};
        if (steps_shift && !added) shifted <= shifted + steps_pairs;
        if (steps_lift) lifted <= lifted + steps_pairs;
        roots <= steps_divisor ? 0 : roots + (steps_root && !softmax);
        quotients <= quotients + steps_divide;
      end
    end else if (goes) under_way <= 0;
  end
  wire one = (steps_pairs & steps_pairs - 1) == 0 && steps_pairs != 0;
  wire nothing = {
    steps_multiply, steps_take, steps_subtract, steps_shift, steps_add, steps_lift, steps_root, steps_divisor, steps_divide,
    steps_keep
  } == 0;
  always @* begin
    assume (reset == !running);
    assume (count != 0 && count <= 4096);
    assume (!measures || first || (under_way && kind == softmax && fields == {count, doublings}));
    assume (!goes || !applies || (tiles != 0 && (first || applied)));
    assume (tiles < 64 || applied || !measures || !first);
    if (running) assert (steps_sum2 == sums);
    if (running && goes && applies) assert (gives == 1 << at_now % 8 && place_shown == tile);
    if (running && measures && steps_keep) assert (place_written == tiles);
    if (running && !(goes && applies) && enable) assert (gives == 0);
    if (running && measures) begin
      assert (steps_restart == first && place_slot == at_now[2:0] && steps_softmax == softmax);
      assert (steps_compare == (pass_now == 0 && at_now < count));
      if (pass_now != 2) assert (nothing);
      else begin
        assert (!steps_multiply || (pause >= 3 && !multiplied));
        assert (!steps_take || (multiplied && !taken && wait_product >= 2));
        assert (!steps_subtract || (taken && !subtracted && wait_product >= 2));
        assert (!steps_add || (!added && (subtracted && shifted == doublings)));
        assert (!steps_lift || (added && one && (lifted & steps_pairs) == 0));
        if (!softmax && steps_shift) assert (subtracted && (added ? steps_root && steps_pairs == 2 : one));
        if (!softmax && steps_root) assert (lifted == 31 && steps_shift && !divided);
        assert (!steps_divisor || (!divided && (softmax ? pause >= 3 : roots == 16)));
        assert (!steps_divide || divided);
        assert (!steps_keep || (divided && quotients == 15 && !kept));
      end
    end
  end

  (* hierconn *) wire [13:0] \dut.at ;
  (* hierconn *) wire [1:0] \dut.phase ;
  (* hierconn *) wire [5:0] \dut.settled ;
  wire [12:0] channels = fields[17:5] - 13'd1; // the last one
  wire [5:0] s = \dut.settled ;
  wire [4:0] shifts = s <= 8 ? 0 : s == 9 ? 16 : s == 10 ? 24 : s == 11 ? 28 : s == 12 ? 30 : 31;
  wire [4:0] lifts = s <= 14 ? 0 : s == 15 ? 16 : s == 16 ? 24 : s == 17 ? 28 : s == 18 ? 30 : 31;
  (* hierconn *) wire \dut.fresh ;
  always @* if (running) begin
    assert (\dut.fresh == applied && place_written == tiles[5:0] && place_shown == tile);
    assert (tiles <= 64 && (tile == 0 || tile < tiles));
    assert (!under_way || !applied);
    assert (tiles < 64 || applied || (under_way && pass == 2 && kept));
    if (applied && tiles != 0) assert (\dut.at == at);
  end
  always @* if (running && under_way) begin
    assert (\dut.at == at && \dut.phase == pass && pass <= 2);
    assert (pass == 2 || (at <= {channels[12:3], 3'd7} && channels < 4096));
    if (pass == 2) begin
      assert (s >= (kind ? 32 : 0) && s <= 52);
      assert (pause == (s - (kind ? 32 : 0) > 7 ? 7 : s - (kind ? 32 : 0)));
      assert (divided == (s > 35) && quotients == (s <= 36 ? 0 : s >= 51 ? 15 : s - 36) && kept == (s > 51));
      if (!kind) begin
        assert (multiplied == (s > 3) && taken == (s > 5) && subtracted == (s > 7) && added == (s > 13));
        assert (s <= 3 || wait_product == (s <= 5 ? s - 3 : s - 5 > 7 ? 7 : s - 5));
        assert (shifted == (shifts & fields[4:0]) && lifted == lifts);
        assert (roots == (s <= 19 || s > 35 ? 0 : s - 19));
      end
    end
  end
endmodule
