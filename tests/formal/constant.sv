// Three bits of a group's constant d, the lower or the signed upper ones, times the sum of the activations.
module harness (input [11:0] total, input [2:0] piece, input high);
  wire signed [15:0] product;
  constant_multiplier dut (.*);

  wire signed [16:0] sum = total;
  wire signed [3:0] factor = high ? $signed(piece) : $signed({1'b0, piece});
  always @* assert (product == sum * factor);
endmodule
