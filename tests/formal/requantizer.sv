// The requantizer in three parts: the sum, with the raw bytes; the product of the sum; rounding, zero point and clamp
// of any product. A macro's number is the stage of its port or register.
module harness (
  input clk, input enable, input [`ACCUMULATOR-1:0] result, input [31:0] bias, input [23:0] multiplier,
  input [5:0] shift, input raw, input [1:0] plane, input [7:0] zero, low, high
);
  wire [7:0] octet;
  requantizer dut (.*);

  (* hierconn *) wire signed [31:0] \dut.total ;
  (* hierconn *) wire signed [56:0] \dut.product ;

`ifdef PROVE_SUM
  wire signed [`ACCUMULATOR-1:0] result1;
  wire signed [31:0] bias1;
  later #(`BIAS - `RESULT, `ACCUMULATOR) results (clk, enable, result, result1);
  assign bias1 = bias;
  wire signed [31:0] sum = result1 + bias1, sum2, sum4;
  wire known2, known4, raw4;
  wire [1:0] plane4;
  later #(`SUM - `BIAS, 32) sums (clk, enable, sum, sum2);
  later #(`SUM - `RESULT, 1) edges (clk, enable, 1'b1, known2);
  later #(`OCTET - `SUM, 33) kept (clk, enable, {known2, sum2}, {known4, sum4});
  later #(`OCTET - `SHIFT, 3) settings (clk, enable, {raw, plane}, {raw4, plane4});
  always @* begin
    if (known2) assert (\dut.total == sum2);
    if (known4 && raw4) assert (octet == sum4[8*plane4 +: 8]);
  end
`endif

`ifdef PROVE_PRODUCT
  wire signed [56:0] product = \dut.total * $signed({1'b0, multiplier}), expected;
  wire known;
  later #(`PRODUCT - `MULTIPLIER, 58) products (clk, enable, {1'b1, product}, {known, expected});
  always @* if (known) assert (\dut.product == expected);
`endif

`ifdef PROVE_ROUNDING
  // p / 2^S is floor + rest / 2^S; it is rounded up when the rest is above a half, or a half and the floor odd.
  wire signed [63:0] p = \dut.product ;
  wire signed [63:0] floor = p >>> shift;
  wire [63:0] rest = p - (floor <<< shift);
  wire [63:0] half = 64'd1 << (shift - 1);
  wire up = rest > half || (rest == half && floor[0]);
  wire signed [63:0] code = floor + $signed({1'b0, up}) + $signed({1'b0, zero});
  wire [7:0] clamped = code < $signed({1'b0, low}) ? low : code > $signed({1'b0, high}) ? high : code;
  wire [7:0] expected;
  wire known;
  later #(`OCTET - `SHIFT, 9) octets (clk, enable, {!raw, clamped}, {known, expected});
  always @* begin
    assume (shift >= 1 && shift <= `MAX_SHIFT);
    if (known) assert (octet == expected);
  end
`endif
endmodule
