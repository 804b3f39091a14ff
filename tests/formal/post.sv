// The steps of post-processing, with any stalls: a step's word holds for two enabled cycles (steps.sv), in which
// nothing else is issued. Every channel gets its byte of the low octet with the block's low factor, then of the high
// one with the high factor, or with 1 for a maximum, two enabled cycles after the word and three; the terms are added a
// cycle later, the first as the first. Results leave from the lowest channel on.
module harness (
  input clk, input reset, input enable, input take, input maximum, input [20:0] factor_low, input [20:0] factor_high,
  input valid, input first, input load, input [128*`ROWS-1:0] word, input capture, input drain
`ifdef UNITS
  , input product, input minus, input [7:0] gives, input [32*`ROWS-1:0] given, input holds3, input holds4
`endif
);
  wire [`BITS*`ROWS-1:0] results;
  post dut (.*);

  // The fields of the next block, and those of the block that is issued.
  (* hierconn *) wire \dut.next_maximum , \dut.this_maximum ;
  (* hierconn *) wire [20:0] \dut.next_low , \dut.next_high , \dut.this_low , \dut.this_high ;
  reg [42:0] next, now;
  reg running = 0, held = 0;
  reg [128*`ROWS-1:0] before;
  always @(posedge clk) begin
    running <= 1;
    if (take) next <= {maximum, factor_low, factor_high};
    if (enable) begin
      now <= next;
      held <= load;
      before <= word;
    end
  end
  always @* begin
    assume (running || next == {\dut.next_maximum , \dut.next_low , \dut.next_high });
    assume (running || now == {\dut.this_maximum , \dut.this_low , \dut.this_high });
    assume (!held || (!load && !valid && !first && word == before));
    assume (load || !valid && !first);
  end

  wire issued2, issued3, most3, adds3, adds4, first3, long;
  wire [41:0] factors2, factors3;
  wire [128*`ROWS-1:0] word2, word3;
  wire [41:0] factors = now[42] ? {21'd1, 21'd1} : now[41:0];
  later #(2, 43 + 128*`ROWS) lows (clk, enable, {load, factors, word}, {issued2, factors2, word2});
  later #(1, 43 + 128*`ROWS) highs (clk, enable, {issued2, factors2, word2}, {issued3, factors3, word3});
  later #(3, 3) terms (clk, enable, {valid, first, now[42]}, {adds3, first3, most3});
  later #(1, 1) more (clk, enable, adds3, adds4);
  later #(4, 1) edges (clk, enable, 1'b1, long);

  (* hierconn *) wire [7:0] \dut.post_channel0.x , \dut.post_channel9.x , \dut.post_channel15.x ;
  (* hierconn *) wire [20:0] \dut.post_channel0.factor , \dut.post_channel9.factor , \dut.post_channel15.factor ;
  (* hierconn *) wire \dut.post_channel9.adds , \dut.post_channel9.first , \dut.post_channel9.maximum ;
  wire [23:0] bytes = {\dut.post_channel15.x , \dut.post_channel9.x , \dut.post_channel0.x };
  wire [64*`ROWS-1:0] high3 = word3[128*`ROWS-1:64*`ROWS];
  wire [62:0] both = {\dut.post_channel15.factor , \dut.post_channel9.factor , \dut.post_channel0.factor };
  always @* begin
    if (issued2) assert (bytes == {word2[127:120], word2[79:72], word2[7:0]} && both == {3{factors2[41:21]}});
    if (issued3) assert (bytes == {high3[127:120], high3[79:72], high3[7:0]} && both == {3{factors3[20:0]}});
    if (adds3) assert (\dut.post_channel9.first == first3 && \dut.post_channel9.maximum == most3);
    if (long) assert (\dut.post_channel9.adds == ((adds3 && !holds3) || (adds4 && !holds4)));
    if (adds4) assert (!\dut.post_channel9.first );
  end

  // The second row's results, one behind the other.
  (* hierconn *) wire [`BITS-1:0] \dut.post_channel8.total , \dut.post_channel9.total , \dut.post_channel15.total ;
  (* hierconn *) wire [`BITS-1:0] \dut.post_channel8.result , \dut.post_channel9.result , \dut.post_channel15.result ;
  wire [3*`BITS-1:0] totals = {\dut.post_channel15.total , \dut.post_channel9.total , \dut.post_channel8.total };
  wire [3*`BITS-1:0] chain = {\dut.post_channel15.result , \dut.post_channel9.result , \dut.post_channel8.result };
  reg any = 0;
  reg [2*`BITS-1:0] expected;
  always @(posedge clk) begin
    any <= 1;
    expected <= capture ? {totals[3*`BITS-1:2*`BITS], totals[`BITS-1:0]}
      : drain ? {{`BITS{1'b0}}, chain[2*`BITS-1:`BITS]} : {chain[3*`BITS-1:2*`BITS], chain[`BITS-1:0]};
  end
  always @* begin
    assert (results[2*`BITS-1:`BITS] == chain[`BITS-1:0]);
    if (any) assert ({chain[3*`BITS-1:2*`BITS], chain[`BITS-1:0]} == expected);
  end

`ifdef UNITS
  // What the terms of products need: the fields, the zero points, and with the low octet the byte of the high one.
  (* hierconn *) wire \dut.signs0.next_product , \dut.signs0.next_minus , \dut.signs0.this_product , \dut.signs0.this_minus ;
  (* hierconn *) wire \dut.post_channel9.late , \dut.post_channel9.product , \dut.post_channel9.minus ;
  (* hierconn *) wire [7:0] \dut.post_channel9.zero_low , \dut.post_channel9.zero_high , \dut.post_channel9.following ;
  reg [1:0] next_signs, signs;
  wire [1:0] signs2, signs3;
  later #(2, 2) signs_of_lows (clk, enable, signs, signs2);
  later #(1, 2) signs_of_highs (clk, enable, signs2, signs3);
  always @(posedge clk) begin
    if (take) next_signs <= {product, minus};
    if (enable) signs <= next_signs;
  end
  wire [1:0] at_hand = {\dut.post_channel9.product , \dut.post_channel9.minus };
  wire [15:0] zeros = {\dut.post_channel9.zero_high , \dut.post_channel9.zero_low };
  always @* begin
    assume (running || next_signs == {\dut.signs0.next_product , \dut.signs0.next_minus });
    assume (running || signs == {\dut.signs0.this_product , \dut.signs0.this_minus });
    if (issued2) assert (at_hand == signs2 && !\dut.post_channel9.late && zeros == {factors2[7:0], factors2[28:21]});
    if (issued2) assert (\dut.post_channel9.following == word2[64*`ROWS + 79 -: 8]);
    if (issued3) assert (at_hand == signs3 && \dut.post_channel9.late );
  end
`else
  wire holds3 = 0, holds4 = 0;
`endif
endmodule
