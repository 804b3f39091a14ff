// The requantizer in four parts: the sum, with the bytes that a raw layer gets by the fields `split` makes for it; the
// parts of its product; their sum; shift, rounding, zero point and clamp of any product. A macro's number is the stage of
// its port or register.
module harness (
  input clk, input enable, input [`ACCUMULATOR-1:0] result, input [31:0] bias,
`ifdef PROVE_SUM
  input [63:0] parameters, input [1:0] plane,
`else
  input [23:0] multiplier, input [5:0] shift, input raw,
`endif
  input [7:0] zero, low, high
);
  wire [7:0] octet;
  wire passing;
  requantizer dut (.*);

  (* hierconn *) wire signed [31:0] \dut.total ;
  (* hierconn *) wire signed [55:0] \dut.product ;

`ifdef PROVE_SUM
  wire raw = 1;
  assign passing = 1;
  wire [29:0] scale;
  wire [23:0] multiplier = scale[23:0];
  wire [5:0] shift;
  split fields (.parameters(parameters), .raw(raw), .plane(plane), .scale(scale));
  later #(`SHIFT - `MULTIPLIER, 6) shifts (clk, enable, scale[29:24], shift);

  wire signed [`ACCUMULATOR-1:0] result1;
  wire signed [31:0] bias1;
  later #(`BIAS - `RESULT, `ACCUMULATOR) results (clk, enable, result, result1);
  assign bias1 = bias;
  wire signed [31:0] sum = result1 + bias1, sum2, sum8;
  wire known2, known8;
  wire [1:0] plane8;
  later #(`SUM - `BIAS, 32) sums (clk, enable, sum, sum2);
  later #(`SUM - `RESULT, 1) edges (clk, enable, 1'b1, known2);
  later #(`OCTET - `SUM, 33) kept (clk, enable, {known2, sum2}, {known8, sum8});
  later #(`OCTET - `MULTIPLIER, 2) planes (clk, enable, plane, plane8);
  always @* begin
    if (known2) assert (\dut.total == sum2);
    if (known8) assert (octet == sum8[8*plane8 +: 8]);
  end
`else
  later #(`PASSING - `RAW, 1) passings (clk, enable, raw, passing);
`endif

  (* hierconn *) wire signed [28:0] \dut.multiplier_240.low_low , \dut.multiplier_240.low_high ;
  (* hierconn *) wire signed [27:0] \dut.multiplier_240.high_low , \dut.multiplier_240.high_high ;
  wire signed [56:0] ll = \dut.multiplier_240.low_low , lh = \dut.multiplier_240.low_high ;
  wire signed [56:0] hl = \dut.multiplier_240.high_low , hh = \dut.multiplier_240.high_high ;

`ifdef PROVE_PARTS
  wire signed [16:0] total_low = \dut.total [15:0];
  wire signed [15:0] total_high = \dut.total [31:16];
  wire signed [12:0] factor_low = multiplier[11:0], factor_high = multiplier[23:12];
  wire signed [28:0] low_low = total_low * factor_low, low_high = total_low * factor_high;
  wire signed [27:0] high_low = total_high * factor_low, high_high = total_high * factor_high;
  wire [113:0] expected;
  wire known;
  later #(1, 115) products (clk, enable, {1'b1, low_low, low_high, high_low, high_high}, {known, expected});
  always @* if (known) assert (expected == {ll[28:0], lh[28:0], hl[27:0], hh[27:0]});
`endif

`ifdef PROVE_PRODUCT
  wire signed [55:0] product = ll + (lh <<< 12) + (hl <<< 16) + (hh <<< 28), expected; // its true value fits
  wire known;
  later #(1, 57) products (clk, enable, {1'b1, product}, {known, expected});
  always @* begin
    assume (ll >= 0); // a product of two unsigned halves
    if (known) assert (\dut.product == expected);
  end
`endif

`ifdef PROVE_ROUNDING
  // p / 2^S is floor + rest / 2^S; it is rounded up when the rest is above a half, or a half and the floor odd.
  wire signed [63:0] p = \dut.product ;
  wire signed [63:0] floor = p >>> shift, halves = (p <<< 1) >>> shift;
  wire [63:0] rest = p - (floor <<< shift);
  wire [63:0] half = 64'd1 << (shift - 1);
  wire up = rest > half || (rest == half && floor[0]);
  wire signed [63:0] rounded, code;
  wire [7:0] halves6, halves8;
  wire raw8, known6, known8;
  later #(`RAW - `SHIFT, 73) roundings (
    clk, enable, {1'b1, floor + $signed({1'b0, up}), halves[7:0]}, {known6, rounded, halves6}
  );
  later #(`PASSING - `RAW, 64) codes (clk, enable, rounded + $signed({1'b0, zero}), code);
  later #(`OCTET - `RAW, 10) kept (clk, enable, {known6, raw, halves6}, {known8, raw8, halves8});
  wire [7:0] clamped = code < $signed({1'b0, low}) ? low : code > $signed({1'b0, high}) ? high : code;
  wire [7:0] expected;
  later #(`OCTET - `PASSING, 8) octets (clk, enable, clamped, expected);
  always @* begin
    assume (shift >= 1 && shift <= `SHIFTS);
    if (known8) assert (octet == (raw8 ? halves8 : expected));
  end
`endif
endmodule
