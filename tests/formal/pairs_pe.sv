// The pairs element of two bit columns a cycle in parts. Its columns are wired as they should be and weighed two to one,
// the first signed; whatever that is, it is shifted and the digit's part added; whatever that is, it is accumulated.
module harness (
  input clk, input enable, input [127:0] single, input [71:0] both, input [11:0] total, input [13:0] triple,
  input [47:0] picks, input [1:0] fine, input [3:0] size, input coarse, minus, high, negative, valid, first,
  input capture, drain, input [31:0] behind
);
  wire [31:0] result;
  pairs_pe dut (.*);

  (* hierconn *) wire [23:0] \dut.every ;
  (* hierconn *) wire signed [14:0] \dut.value ;
  (* hierconn *) wire signed [20:0] \dut.increment ;

`ifdef PROVE_WIRES
  wire [11:0] upper, lower;
  wire known;
  pair_column above (.*, .selected(upper));
  pair_column_1 below (.*, .selected(lower));
  later #(`SUMS - `CHOICES, 1) edges (clk, enable, 1'b1, known);
  always @* if (known) assert (\dut.every == {lower, upper});
`endif

`ifdef PROVE_VALUE
  wire signed [14:0] upper = \dut.every [11:0], lower = \dut.every [23:12];
  always @* assert (\dut.value == (negative ? -2 * upper : 2 * upper) + lower);
`endif

`ifdef PROVE_TERM
  wire signed [14:0] value4;
  wire signed [20:0] some4, wide4 = value4;
  wire [1:0] fine4;
  wire known;
  wire signed [20:0] some = size[0] ? total : size[1] ? total << 1 : size[2] ? triple : size[3] ? total << 2 : 0;
  later #(`TOTAL - `SUMS, 39) operands (clk, enable, {1'b1, \dut.value , some, fine}, {known, value4, some4, fine4});
  wire signed [20:0] more = high ? some4 <<< 3 : some4;
  wire signed [20:0] column = wide4 <<< {coarse, fine4};
  wire signed [20:0] sum = \dut.increment + $signed({1'b0, minus}), expected = column + (minus ? -more : more);
  always @* begin
    assume ((size & (size - 4'd1)) == 0);
    if (known) assert (sum == expected);
  end
`endif

`ifdef PROVE_SUM
  (* hierconn *) wire [31:0] \dut.accumulator0.total ;
  wire signed [31:0] increment = \dut.increment + $signed({1'b0, minus}); // -x is ~x + 1
  wire [31:0] whole, expected;
  wire started, known;
  accumulated model (.*, .total(whole), .result(expected));
  always @* begin
    if (started) assert (\dut.accumulator0.total == whole);
    if (known) assert (result == expected);
  end
`endif
endmodule
