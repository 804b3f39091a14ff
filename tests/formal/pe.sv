// The BitVert element in three parts. Its parts are wired as they should be; whatever these give, their sum is weighed,
// signed and the constant's part added; whatever that is, it is accumulated, captured and drained.
module harness (
  input clk, input enable, input [63:0] x_low, x_high, input [11:0] select_low, select_high,
  input [10:0] sum_low, sum_high, input [11:0] sum_all, input invert_low, invert_high, input [2:0] piece,
  input high, input [1:0] fine, input valid, first, negative, scale_high, coarse, input capture, drain,
  input [31:0] behind
);
  wire [31:0] result;
  pe dut (.*);

  (* hierconn *) wire [10:0] \dut.selected_low , \dut.selected_high ;
  (* hierconn *) wire signed [15:0] \dut.product ;
  (* hierconn *) wire signed [20:0] \dut.increment ;

`ifdef PROVE_WIRES
  wire [10:0] low, upper;
  wire signed [15:0] product;
  wire known;
  subgroup below (.*, .x(x_low), .choice(select_low), .total(sum_low), .invert(invert_low), .selected(low));
  subgroup above (.*, .x(x_high), .choice(select_high), .total(sum_high), .invert(invert_high), .selected(upper));
  constant_multiplier constant (.*, .total(sum_all));
  later #(`SUMS - `CHOICES, 1) edges (clk, enable, 1'b1, known);
  always @* begin
    if (known) assert (\dut.selected_low == low && \dut.selected_high == upper);
    assert (\dut.product == product);
  end
`endif

`ifdef PROVE_TERM
  wire signed [31:0] term;
  wire known;
  weighed model (.*, .sum({1'b0, \dut.selected_low } + {1'b0, \dut.selected_high }), .offset({\dut.product [15], \dut.product }));
  always @* if (known) assert (\dut.increment + $signed({1'b0, negative}) == term);
`endif

`ifdef PROVE_SUM
  (* hierconn *) wire [31:0] \dut.accumulator0.total ;
  wire signed [31:0] increment = \dut.increment + $signed({1'b0, negative}); // -x is ~x + 1
  wire [31:0] total, expected;
  wire started, known;
  accumulated model (.*, .result(expected));
  always @* begin
    if (started) assert (\dut.accumulator0.total == total);
    if (known) assert (result == expected);
  end
`endif
endmodule
