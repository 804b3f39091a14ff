// The requantizer's sum, and the bytes of it that a raw layer gives. A port's number is that of the edges from it to the
// octet.
module harness (
  input clk, input [`BITS-1:0] result, input [31:0] bias, input [23:0] multiplier, input [5:0] shift,
  input raw, input [1:0] plane, input [7:0] zero, low, high
);
  wire [7:0] octet;
  wire enable = 1;
  requantizer dut (.*);

  (* hierconn *) wire signed [31:0] \dut.total ;

  wire signed [`BITS-1:0] result2;
  wire known2;
  wire [31:0] sum, bias2, sum_raw;
  wire known;
  later #(`RESULT - `TOTAL, `BITS + 1) results (clk, 1'b1, {1'b1, result}, {known2, result2});
  later #(`BIAS - `TOTAL, 32) biases (clk, 1'b1, bias, bias2);
  assign sum = result2 + $signed(bias2);
  wire raw0;
  wire [1:0] plane0;
  later #(`TOTAL, 33) sums (clk, 1'b1, {known2, sum}, {known, sum_raw});
  later #(`SHIFT, 3) settings (clk, 1'b1, {raw, plane}, {raw0, plane0});
  always @* begin
    if (known2) assert (\dut.total == sum);
    if (known && raw0) assert (octet == sum_raw[8*plane0 +: 8]);
  end
endmodule
