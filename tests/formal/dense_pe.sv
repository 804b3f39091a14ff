// The dense element in the same parts as the BitVert element (pe.sv): its term for any column of any activations.
module harness (
  input clk, input enable, input [63:0] x, input [7:0] bits_in, input [1:0] fine,
  input valid, first, negative, coarse, input capture, drain, input [31:0] behind
);
  wire [31:0] result;
  dense_pe dut (.*);

  (* hierconn *) wire signed [20:0] \dut.term ;

`ifdef PROVE_TERM
  wire [10:0] low, high, low3, high3;
  wire signed [31:0] term;
  wire known, there;
  column_sum dense_low (.x(x), .bits(bits_in & 8'h0f), .ones(low));
  column_sum dense_high (.x(x), .bits(bits_in & 8'hf0), .ones(high));
  later #(`SUMS - `CHOICES, 22) sums (clk, enable, {low, high}, {low3, high3});
  later #(`TOTAL - `CHOICES, 1) edges (clk, enable, 1'b1, known);
  weighed model (.*, .sum({1'b0, low3} + {1'b0, high3}), .offset(17'd0), .scale_high(1'b0), .known(there));
  always @* if (known) assert (\dut.term + $signed({1'b0, negative}) == term);
`endif

`ifdef PROVE_SUM
  (* hierconn *) wire [31:0] \dut.accumulator0.total ;
  wire signed [31:0] increment = \dut.term + $signed({1'b0, negative});
  wire [31:0] total, expected;
  wire started, known;
  accumulated model (.*, .result(expected));
  always @* begin
    if (started) assert (\dut.accumulator0.total == total);
    if (known) assert (result == expected);
  end
`endif
endmodule
