// A bit column of a pairs element: of each pair the activations under its ones; whatever these are, their sum.
module harness (input clk, input enable, input [127:0] single, input [15:0] bits, input [23:0] others);
  reg [71:0] both;
  reg [47:0] picks;
  wire [11:0] selected;
  pair_column dut (.*);
  (* hierconn *) wire [8:0] \dut.y0 , \dut.y1 , \dut.y2 , \dut.y3 , \dut.y4 , \dut.y5 , \dut.y6 , \dut.y7 ;
  wire [71:0] y = {\dut.y7 , \dut.y6 , \dut.y5 , \dut.y4 , \dut.y3 , \dut.y2 , \dut.y1 , \dut.y0 };
  wire [71:0] y3;
  wire known;
  later #(`SUMS - `CHOICES, 73) pairs (clk, enable, {1'b1, y}, {known, y3});
  reg [11:0] low, high;
  integer p;
  always @* begin
    picks[47:24] = others;
    low = 0;
    high = 0;
    for (p = 0; p < 8; p = p + 1) begin
      both[9*p +: 9] = single[16*p +: 8] + single[16*p + 8 +: 8];
      picks[3*p +: 3] = {bits[2*p] && bits[2*p+1], bits[2*p+1] && !bits[2*p], bits[2*p] && !bits[2*p+1]};
      if (p < 4) low = low + y3[9*p +: 9];
      else high = high + y3[9*p +: 9];
    end
`ifdef PROVE_PICKS
    for (p = 0; p < 8; p = p + 1)
      assert (y[9*p +: 9] == (bits[2*p] ? single[16*p +: 8] : 8'd0) + (bits[2*p+1] ? single[16*p + 8 +: 8] : 8'd0));
`endif
`ifdef PROVE_SUM
    if (known) assert (selected == low + high);
`endif
  end
endmodule
