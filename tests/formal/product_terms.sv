// What an octet of a step adds: its byte times its factor; of a difference, with an offset for the low octet and
// negated for the high one; of a product, both bytes less their zero points, multiplied, and another offset for the
// high octet. 2^29 is more than a byte times a factor, so that to set that bit is to add it.
module harness (
  input clk, input enable, input late, input product, input minus, input [20:0] factor,
  input [7:0] zero_low, input [7:0] zero_high, input [7:0] x, input [7:0] following
);
  wire [30:0] part;
  product_terms dut (.*);

  (* hierconn *) wire signed [8:0] \dut.left ;
  (* hierconn *) wire signed [21:0] \dut.right ;
  (* hierconn *) wire signed [30:0] \dut.term ;
  wire signed [31:0] byte_low = x, byte_high = following, low = zero_low, high = zero_high, times = factor;
  wire signed [31:0] left = product ? byte_low - low : minus && late ? -byte_low : byte_low;
  wire signed [31:0] right = product ? byte_high - high : times;
  wire signed [30:0] term = \dut.left * \dut.right ;
  reg known = 0;
  reg [30:0] expected;
  always @(posedge clk) begin
    known <= known || enable;
    if (enable) expected <= product && late ? 1 << 16 : {term[30], minus && !product && !late || term[29], term[28:0]};
  end
  always @* begin
    assume (!product || !minus);
    assert (\dut.left == left && \dut.right == right && \dut.term == term);
    if (known) assert (part == expected);
  end
endmodule
