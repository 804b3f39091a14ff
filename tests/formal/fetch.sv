// Windows out of the maps, between a walk that may be anywhere and banks that are followed at one word, any. The array
// asks for octets; each is answered once, in the order in which they were asked for: in a row, also any, whose tap is
// present, with the bank's word at its address, else with padding, or zeros in the filler. From outside, with the words
// of that memory.
module harness (
  input clk, input reset, input job, input [311:0] walk, input [138:0] taps, input [31:0] base, input [31:0] count,
  input request, input [64*`ROWS-1:0] read_data,
  input outside_ready, input outside_valid, input [64*`ROWS-1:0] outside_data, input block_done, input halt
);
  wire job_ready, accepted, answer, outside_en;
  wire [64*`ROWS-1:0] word;
  wire [`ROWS-1:0] reads;
  wire [`LINE_BITS*`ROWS-1:0] read_lines;
  wire [31:0] outside_addr;
  fetch dut (.*);

  reg running = 0;
  always @(posedge clk) running <= 1;
  always @* assume (reset == !running && !halt);
  (* hierconn *) wire [24*`ROWS-1:0] \dut.addresses ;
  (* hierconn *) wire [`ROWS-1:0] \dut.present ;
  (* hierconn *) wire \dut.inside_go , \dut.outside_go , \dut.filling , \dut.external , \dut.active ;
  (* hierconn *) wire [7:0] \dut.pad ;

`ifdef PROVE_WORDS
  // The word that is followed, and the row.
  (* anyconst *) wire [$clog2(`ROWS)-1:0] bank, row;
  (* anyconst *) wire [`LINE_BITS-1:0] line;
  (* anyconst *) wire [63:0] content;
  wire [$clog2(`ROWS)+`LINE_BITS-1:0] address = \dut.addresses >> 24 * row;
  reg [`LINE_BITS-1:0] shown; // the line that the bank shows
  always @(posedge clk) if (reads[bank]) shown <= read_lines[`LINE_BITS*bank +: `LINE_BITS];
  always @* assume (shown != line || read_data[64*bank +: 64] == content);

  // What was asked for and is not yet answered, of the row: from its bank, known if it is the word that is followed.
  reg [1:0] asked = 0, answered = 0;
  reg [3:0] banked, known;
  reg [63:0] expected [0:3];
  reg [15:0] outside = 0; // words asked of the memory outside
  wire there = \dut.present [row] && !\dut.filling ;
  wire inner = answer && !outside_valid;
  always @(posedge clk) if (!reset) begin
    if (\dut.inside_go ) begin
      asked <= asked + 1;
      banked[asked] <= there;
      known[asked] <= !there || address == {line, bank};
      expected[asked] <= there ? content : \dut.filling ? 64'd0 : {8{\dut.pad }};
    end
    if (inner) answered <= answered + 1;
    outside <= outside + (outside_en && outside_ready) - outside_valid;
  end
  wire [1:0] flying = asked - answered;
  always @* begin
    assume (!outside_valid || outside != 0);
    assume (outside < 1000);
    if (running) begin
      assert (accepted == (\dut.inside_go || (outside_en && outside_ready)));
      assert (!inner || flying != 0);
      assert (outside == 0 || flying == 0); // so that the two keep their order
      if (inner && known[answered]) assert (word[64*row +: 64] == expected[answered]);
      if (outside_valid) assert (answer && word == outside_data);
    end
  end

  // Which of them is in a stage, and where the row's word then is.
  (* hierconn *) wire \dut.valid1 , \dut.valid2 , \dut.valid3 , \dut.last2 , \dut.last3 ;
  (* hierconn *) wire \dut.fresh1 , \dut.fresh2 , \dut.fresh3 ;
  (* hierconn *) wire [`ROWS-1:0] \dut.pending1 , \dut.granted2 , \dut.granted3 ;
  (* hierconn *) wire [24*`ROWS-1:0] \dut.addresses1 ;
  (* hierconn *) wire [7:0] \dut.pad1 , \dut.pad2 , \dut.pad3 ;
  (* hierconn *) wire [$clog2(`ROWS)*`ROWS-1:0] \dut.sources2 , \dut.sources3 ;
  (* hierconn *) wire [64*`ROWS-1:0] \dut.held ;
  (* hierconn *) wire [15:0] \dut.flying ;
  wire [$clog2(`ROWS)+`LINE_BITS-1:0] address1 = \dut.addresses1 >> 24 * row;
  always @* if (running) assert ((\dut.valid2 || !\dut.last2 ) && (\dut.valid3 || !\dut.last3 ));
  wire leaves3 = \dut.valid3 && \dut.last3 , leaves2 = \dut.valid2 && \dut.last2 ;
  wire [1:0] at3 = answered, at2 = at3 + leaves3, at1 = at2 + leaves2;
  wire [$clog2(`ROWS)-1:0] source2 = \dut.sources2 >> $clog2(`ROWS) * row;
  wire [$clog2(`ROWS)-1:0] source3 = \dut.sources3 >> $clog2(`ROWS) * row;
  wire [63:0] holds = \dut.held [64*row +: 64];
  wire gathers = \dut.valid3 && !\dut.fresh3 ;
  always @* if (running) begin
    assert (flying == \dut.valid1 + leaves2 + leaves3 && \dut.flying == flying + outside);
    assert (outside == 0 || \dut.external );
    assert (flying == 0 || !\dut.external );
    assert (\dut.valid1 || (\dut.pending1 == 0 && !\dut.fresh1 ));
    assert (\dut.valid2 || (\dut.granted2 == 0 && !\dut.fresh2 && !\dut.last2 ));
    assert (\dut.valid3 || (\dut.granted3 == 0 && !\dut.fresh3 && !\dut.last3 ));
    assert ((\dut.valid2 && !\dut.last2 ) == (\dut.valid1 && !\dut.fresh1 ));
    assert ((\dut.valid3 && !\dut.last3 ) == (\dut.valid2 && !\dut.fresh2 ));
    if (\dut.pending1 [row] && known[at1]) assert (banked[at1] && address1 == {line, bank});
    if (\dut.granted2 [row] && known[at2])
      assert (banked[at2] && source2 == bank && reads[bank] && read_lines[`LINE_BITS*bank +: `LINE_BITS] == line);
    if (\dut.granted3 [row] && known[at3]) assert (banked[at3] && source3 == bank && shown == line);
    if (\dut.valid1 && known[at1] && !banked[at1]) assert (expected[at1] == {8{\dut.pad1 }});
    if (\dut.valid2 && known[at2] && !banked[at2]) assert (expected[at2] == {8{\dut.pad2 }});
    if (\dut.valid3 && known[at3] && !banked[at3]) assert (expected[at3] == {8{\dut.pad3 }});
    if (gathers && known[at3] && !banked[at3]) assert (holds == expected[at3]);
  end
  genvar k;
  generate
    for (k = 0; k < 3; k = k + 1) begin : item
      wire [1:0] i = answered + k;
      wire asks = \dut.valid1 && at1 == i && \dut.pending1 [row];
      wire reading = \dut.valid2 && at2 == i && \dut.granted2 [row];
      wire has = \dut.valid3 && at3 == i && \dut.granted3 [row];
      wire [1:0] places = asks + reading + has;
      always @* if (running && k < flying && known[i] && banked[i]) begin
        assert (expected[i] == content && places <= 1);
        if (places == 0) assert (gathers && at3 == i && holds == content);
      end
    end
  endgenerate
`else
  // The job's octets, in the order of its loops: rows of taps, taps, octets, and a filler behind those of a tile. `octet`,
  // `x`, `y` of those of a tile come before; the tap's place is what the steps so far make.
  wire [11:0] taps_y, taps_x, all_y, all_x;
  wire [15:0] taps_octet, octets;
  wire [23:0] delta_octet, delta_x, delta_y, by_octet, by_x, by_y;
  wire [7:0] dilation_x, dilation_y, pad, right, down, border;
  wire filler, external, waits, fills, outside, halts;
  assign {
    waits, external, filler, pad, dilation_y, dilation_x, delta_y, delta_x, delta_octet, taps_octet, taps_x, taps_y
  } = taps;
  reg [138:0] fields;
  assign {halts, outside, fills, border, down, right, by_y, by_x, by_octet, octets, all_x, all_y} = fields;
  reg [11:0] x, y;
  reg [15:0] octet;
  reg full; // all taps of the tile come before: this one is the filler
  reg [23:0] place;
  reg [15:0] place_x, place_y;
  reg active = 0;
  reg [31:0] left, next;
  reg [7:0] behind = 0; // blocks that began and are not yet written
  reg fresh; // nothing was asked for
  wire takes = job && job_ready;
  wire last_octet = octet == octets - 16'd1, last_x = x == all_x - 12'd1, last_y = y == all_y - 12'd1;
  wire tile_ends = full || (last_octet && last_x && last_y && !fills);
  always @(posedge clk) if (!reset) begin
    behind <= behind + takes - block_done;
    if (takes) begin
      fields <= taps;
      {x, y, octet, full, place, place_x, place_y} <= 0;
      active <= count != 0;
      left <= count;
      next <= base;
      fresh <= 1;
    end else if (accepted) begin
      fresh <= 0;
      left <= left - 1;
      next <= next + 1;
      active <= left != 1;
      if (\dut.inside_go ) full <= !tile_ends && last_octet && last_x && last_y;
      if (!\dut.inside_go ) begin end // a word from outside moves no tap
      else if (tile_ends) {x, y, octet, place, place_x, place_y} <= 0;
      else if (!last_octet) begin
        octet <= octet + 1;
        place <= place + by_octet;
      end else if (!last_x) begin
        {octet, x} <= {16'd0, x + 12'd1};
        place <= place + by_x;
        place_x <= place_x + right;
      end else if (!last_y) begin
        {octet, x, y} <= {28'd0, y + 12'd1};
        place <= place + by_y;
        {place_x, place_y} <= {16'd0, place_y + {8'd0, down}};
      end
    end
  end

  (* hierconn *) wire [23:0] \dut.tap_word , \dut.delta_octet , \dut.delta_x , \dut.delta_y ;
  (* hierconn *) wire [15:0] \dut.tap_x , \dut.tap_y , \dut.all_octets , \dut.left_octets ;
  (* hierconn *) wire [11:0] \dut.all_x , \dut.all_y , \dut.left_x , \dut.left_y ;
  (* hierconn *) wire [7:0] \dut.dilation_x , \dut.dilation_y , \dut.behind ;
  (* hierconn *) wire [31:0] \dut.octets_left , \dut.address ;
  (* hierconn *) wire \dut.advance , \dut.fills , \dut.waits ;
  always @* begin
    assume (!takes || (taps_octet != 0 && taps_x != 0 && taps_y != 0));
    if (running) begin
      // One octet is asked for at a time, as many as the job has, and none before what it waits for is written.
      if (accepted) assert (active && request && (!halts || !fresh || behind == 1));
      if (accepted) assert (outside ? outside_addr == next && outside_en : \dut.inside_go );
      assert (\dut.advance == (\dut.inside_go && tile_ends));
      assert (!takes || !active);
      if (active) begin
        assert (\dut.tap_word == place || full);
        assert ((\dut.tap_x == place_x && \dut.tap_y == place_y) || full);
        assert (\dut.filling == full && \dut.pad == border && \dut.external == outside);
      end

      assert (\dut.active == active && \dut.behind == behind);
      if (active) begin
        assert ({\dut.delta_octet , \dut.delta_x , \dut.delta_y } == {by_octet, by_x, by_y});
        assert ({\dut.dilation_x , \dut.dilation_y , \dut.fills } == {right, down, fills});
        assert ({\dut.all_octets , \dut.all_x , \dut.all_y } == {octets, all_x, all_y} && octets && all_x && all_y);
        assert (\dut.octets_left == left && left != 0 && \dut.address == next && \dut.waits == (halts && fresh));
        assert (full || \dut.left_octets == octets - octet && \dut.left_x == all_x - x && \dut.left_y == all_y - y);
        assert (octet < octets && x < all_x && y < all_y && (!full || fills));
      end
    end
  end
`endif
endmodule
