// The steps of post-processing, with any stalls: a step's word holds for two enabled cycles (steps.sv), in which
// nothing else is issued. Every channel gets its byte of the low octet with the block's low factor, then of the high
// one with the high factor, or with 1 for a maximum, two enabled cycles after the word and three; the terms are added a
// cycle later, the first as the first. Results leave from the lowest channel on.
module harness (
  input clk, input reset, input enable, input take, input maximum, input [20:0] factor_low, input [20:0] factor_high,
  input valid, input first, input load, input [128*`ROWS-1:0] word, input capture, input drain
);
  wire [24*`ROWS-1:0] results;
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
  wire [62:0] both = {\dut.post_channel15.factor , \dut.post_channel9.factor , \dut.post_channel0.factor };
  always @* begin
    if (issued2) assert (bytes == {word2[127:120], word2[79:72], word2[7:0]} && both == {3{factors2[41:21]}});
    if (issued3) assert (bytes == {word3[255:248], word3[207:200], word3[135:128]} && both == {3{factors3[20:0]}});
    if (adds3) assert (\dut.post_channel9.adds && \dut.post_channel9.first == first3 && \dut.post_channel9.maximum == most3);
    if (long) assert (\dut.post_channel9.adds == (adds3 || adds4));
    if (adds4) assert (!\dut.post_channel9.first );
  end

  // The second row's results, one behind the other.
  (* hierconn *) wire [23:0] \dut.post_channel8.total , \dut.post_channel9.total , \dut.post_channel15.total ;
  (* hierconn *) wire [23:0] \dut.post_channel8.result , \dut.post_channel9.result , \dut.post_channel15.result ;
  wire [71:0] totals = {\dut.post_channel15.total , \dut.post_channel9.total , \dut.post_channel8.total };
  wire [71:0] chain = {\dut.post_channel15.result , \dut.post_channel9.result , \dut.post_channel8.result };
  reg any = 0;
  reg [47:0] expected;
  always @(posedge clk) begin
    any <= 1;
    expected <= capture ? {totals[71:48], totals[23:0]} : drain ? {24'd0, chain[47:24]} : {chain[71:48], chain[23:0]};
  end
  always @* begin
    assert (results[47:24] == chain[23:0]);
    if (any) assert ({chain[71:48], chain[23:0]} == expected);
  end
endmodule
